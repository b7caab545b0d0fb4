package cloudapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/cloudapi"
)

// The message is the example of Exoscale's documentation. It has no secret to it; the
// signature is from openssl:
//
//	printf 'GET /v2/resource/a02baf5a-a3e4-49a0-857b-8a08d276c1c0\n\nv1v2\n\n1599140767' |
//	  openssl dgst -sha256 -hmac example-secret -binary | base64
func TestSignature(t *testing.T) {
	got := cloudapi.Signature("example-secret", "GET /v2/resource/a02baf5a-a3e4-49a0-857b-8a08d276c1c0", "", "v1v2", 1599140767)
	require.Equal(t, "vPVxcXrf2my0TLdJ8WPIGa/vLld+FiJN+xtMs/vofHg=", got)
}
