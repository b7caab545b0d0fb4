package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUsage(t *testing.T) {
	then := usage{descriptors: 10, threads: 8, rss: 20 << 20}
	now := usage{descriptors: 10 + growth.descriptors, threads: 8 + growth.threads, rss: 20<<20 + growth.rss}
	require.Empty(t, now.exceeds(then))
	now.descriptors++
	require.Equal(t, []string{"descriptors: 19, was 10"}, now.exceeds(then))
	now.threads++
	now.rss++
	require.Len(t, now.exceeds(then), 3)
}

func TestUsageOf(t *testing.T) {
	u, err := usageOf(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, u.descriptors)
	require.Positive(t, u.threads)
	require.Positive(t, u.rss)
	_, err = usageOf(-1)
	require.Error(t, err)
}
