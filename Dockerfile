# consul-vip as an image that holds the static binary and nothing else:
#
#   docker build --build-arg VERSION=1.0.0 -t registry.example.com/consul-vip:1.0.0 .
#
# It has no CA certificates, no users and no time zones. For a Consul with TLS name
# its CA by CONSUL_CACERT; the log is in UTC. It needs the host's network and the
# capabilities NET_ADMIN and NET_RAW; nomad/consul-vip.nomad.hcl gives it just these.

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
RUN make build VERSION="$VERSION"

FROM scratch
COPY --from=build /src/bin/consul-vip /consul-vip
ENTRYPOINT ["/consul-vip"]
