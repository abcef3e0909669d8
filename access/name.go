package access

import (
	"strings"
	"unicode"
)

// CanonicalName returns a name in the form in which it is authorized, compared and
// stored: in lower case, without space at its ends. It is for policies and for the
// roles and users of login methods, whose names do not distinguish case.
func CanonicalName(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// CanonicalNames returns a list of names in canonical form, without empty ones.
func CanonicalNames(names []string) []string {
	var clean []string
	for _, name := range names {
		if name = CanonicalName(name); name != "" {
			clean = append(clean, name)
		}
	}
	return clean
}

// CheckName refuses a misleading name: one with unprintable characters, or with space
// at its ends. The error is [ErrInvalid].
func CheckName(what, name string) error {
	for _, c := range name {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			return mistake("the name of a %s cannot have characters that are not printed: %.100q", what, name)
		}
	}
	if strings.TrimSpace(name) != name {
		return mistake("the name of a %s cannot begin or end with a space: %.100q", what, name)
	}
	return nil
}

func checkNames(what string, names []string) error {
	for _, name := range names {
		if err := CheckName(what, name); err != nil {
			return err
		}
	}
	return nil
}
