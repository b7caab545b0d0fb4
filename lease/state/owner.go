package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Owner is what an instance wants readers of a record to know about itself: the
// text of a JSON object, or empty. Its fields become fields of the record. This
// package does not know their meaning; their names must differ from the names of
// a [Record]'s own fields.
type Owner string

// NewOwner encodes v, which must encode as a JSON object.
func NewOwner(v any) (Owner, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encoding the owner: %w", err)
	}
	if b[0] != '{' {
		return "", fmt.Errorf("encoding the owner: %T does not encode as a JSON object", v)
	}
	return Owner(b), nil
}

// Decode stores the owner's fields in v, which points to a struct or a map. An
// empty owner leaves v as it is.
func (o Owner) Decode(v any) error {
	if o == "" {
		return nil
	}
	return json.Unmarshal([]byte(o), v)
}

// Inline encodes the fields of before, of the owner and of after, in this order,
// as one JSON object. Before and after must encode as objects.
func (o Owner) Inline(before, after any) ([]byte, error) {
	var fields [][]byte
	for _, part := range []any{before, json.RawMessage(o), after} {
		if part, ok := part.(json.RawMessage); ok && len(part) == 0 {
			continue
		}
		object, err := json.Marshal(part)
		if err != nil {
			return nil, err
		}
		if inner := object[1 : len(object)-1]; len(inner) > 0 {
			fields = append(fields, inner)
		}
	}
	return fmt.Appendf(nil, "{%s}", bytes.Join(fields, []byte(","))), nil
}

// ownerOf returns the fields of a JSON object other than known, in their order. As
// in package json, names that differ in case only are equal.
func ownerOf(object []byte, known []string) (Owner, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if _, err := dec.Token(); err != nil { // the opening brace
		return "", err
	}
	var fields [][]byte
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return "", err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return "", err
		}
		name, ok := token.(string)
		if ok && !slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) }) {
			quoted, _ := json.Marshal(name) // a string always encodes
			fields = append(fields, fmt.Appendf(nil, "%s:%s", quoted, value))
		}
	}
	if len(fields) == 0 {
		return "", nil
	}
	return Owner(fmt.Appendf(nil, "{%s}", bytes.Join(fields, []byte(",")))), nil
}
