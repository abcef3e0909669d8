//go:build !linux || !amd64

package storage

import "errors"

func faultWork(string) error { return errors.New("not on this system") }
