package api

import (
	"strings"
	"unicode"
)

// CleanPath returns the part of an URL's path below /v1/, without a slash at its
// end. Paths that would need to be cleaned are refused: a request is never sent
// elsewhere.
func CleanPath(path string) (string, error) {
	below, ok := strings.CutPrefix(path, "/v1/")
	if !ok {
		return "", ErrAbsent
	}
	below = strings.TrimSuffix(below, "/")
	for segment := range strings.SplitSeq(below, "/") {
		switch segment {
		case "":
			return "", Invalid.Errorf("path has an empty segment")
		case ".", "..":
			return "", Invalid.Errorf("path cannot contain the segment %q", segment)
		}
	}
	for _, c := range below {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			return "", Invalid.Errorf("path cannot contain non-printable characters")
		}
	}
	return below, nil
}
