package config

import (
	"regexp"
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// secret matches a key that suggests a secret, and the rest of its line. No such key
// exists, but somebody may write an ACL token there by mistake.
var secret = regexp.MustCompile(`(?im)^(.*\b(?:\w*_)?(?:token|secret|secret_id|password|authorization))\b"?[ \t]*[=:](.*)$`)

// mask returns the files with each secret overwritten, byte by byte, so that all
// positions stay. An error quotes lines, and errors end up in logs.
func mask(files map[string]*hcl.File) map[string]*hcl.File {
	quiet := make(map[string]*hcl.File, len(files))
	for name, file := range files {
		copied := *file
		copied.Bytes = slices.Clone(file.Bytes)
		for _, at := range secret.FindAllSubmatchIndex(copied.Bytes, -1) {
			value := copied.Bytes[at[4]:at[5]]
			for i, b := range value {
				if b != ' ' && b != '"' && b != '}' {
					value[i] = '*'
				}
			}
		}
		quiet[name] = &copied
	}
	return quiet
}
