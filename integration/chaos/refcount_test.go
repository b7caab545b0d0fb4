package main

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRefcount(t *testing.T) {
	var log []string
	r := &refcount{
		do:   func() error { log = append(log, "do"); return nil },
		undo: func() error { log = append(log, "undo"); return errors.New("undone") },
	}
	require.NoError(t, r.acquire())
	require.NoError(t, r.acquire())
	require.True(t, r.held())
	require.NoError(t, r.release())
	require.Equal(t, []string{"do"}, log)
	require.EqualError(t, r.release(), "undone")
	require.False(t, r.held())
	require.Error(t, during(func() { log = append(log, "between") }, r))
	require.Equal(t, []string{"do", "undo", "do", "between", "undo"}, log)
}
