package api

import "regexp"

// called is the end of a line of a stack that has what a function was called with:
// the words of an array among them, which may be a part of a key.
var called = regexp.MustCompile(`(?m)\([^()\n]*\)$`)

// StackWithoutValues leaves out of a stack, as runtime/debug prints it, what the
// functions were called with.
func StackWithoutValues(stack []byte) []byte { return called.ReplaceAll(stack, []byte("(...)")) }
