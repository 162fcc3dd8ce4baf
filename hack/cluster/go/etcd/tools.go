//go:build tools

// Package tools names the programs of this module, so that go.sum covers what they import.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
)
