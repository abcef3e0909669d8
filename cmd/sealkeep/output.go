package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"
)

// object is a decoded JSON object; numbers stay as written.
type object map[string]any

// secret is the envelope of an answer.
type secret struct {
	RequestID     string   `json:"request_id"`
	LeaseID       string   `json:"lease_id"`
	LeaseDuration int64    `json:"lease_duration"`
	Renewable     bool     `json:"renewable"`
	Data          object   `json:"data"`
	Auth          object   `json:"auth"`
	Warnings      []string `json:"warnings"`
}

// authFields returns the fields to show of an answer's token.
func (s secret) authFields() object {
	return object{"token": s.Auth["client_token"], "token_accessor": s.Auth["accessor"], "token_duration": s.Auth["lease_duration"],
		"token_renewable": s.Auth["renewable"], "token_policies": s.Auth["token_policies"], "policies": s.Auth["policies"]}
}

func decode(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return coded{hint(fmt.Errorf("decoding the answer: %w", err), "is the address that of a sealkeep or Vault server?"), 2}
	}
	return nil
}

// decodeSecret decodes an answer. An answer without an envelope, such as that of sys/seal-status, is all data.
func decodeSecret(b []byte) (s secret, err error) {
	if err := decode(b, &s); err != nil {
		return s, err
	}
	if s.RequestID == "" && s.Data == nil && s.Auth == nil {
		err = decode(b, &s.Data)
	}
	return s, err
}

// printJSON prints the answer b unchanged, but indented. It returns an error if b is not JSON.
func (c *cli) printJSON(b []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(b), "", "  "); err != nil {
		return coded{fmt.Errorf("decoding the answer: %w", err), 2}
	}
	fmt.Fprintln(c.stdout, out.String())
	return nil
}

// printValue prints v as indented JSON.
func (c *cli) printValue(v any) error {
	e := json.NewEncoder(c.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// text returns a value as shown in a table.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case nil:
		return "<nil>"
	case object, map[string]any, []any:
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if e.Encode(v) != nil {
			return fmt.Sprint(v)
		}
		return strings.TrimSuffix(b.String(), "\n")
	default:
		return fmt.Sprint(v)
	}
}

// table prints rows in Vault's form: columns four spaces apart under a dashed head.
func table(w io.Writer, rows [][]string) {
	dashes := make([]string, len(rows[0]))
	for i, head := range rows[0] {
		dashes[i] = strings.Repeat("-", len(head))
	}
	rows = slices.Insert(slices.Clone(rows), 1, dashes)
	width := make([]int, len(dashes))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", width[i]-len([]rune(cell))+4))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// printMap prints data as a table of keys and values, sorted.
func (c *cli) printMap(data object) {
	rows := [][]string{{"Key", "Value"}}
	for _, k := range slices.Sorted(maps.Keys(data)) {
		v := text(data[k])
		if k == "deletion_time" && v == "" {
			v = "n/a" // not due, as Vault shows it
		}
		rows = append(rows, []string{k, v})
	}
	table(c.stdout, rows)
}

// printSection prints a headline over a table, as wide as Vault makes it.
func (c *cli) printSection(head string, data object) {
	width := 0
	for k := range data {
		width = max(width, len(k))
	}
	fmt.Fprintln(c.stdout, headline(head, width+len("    Value")))
	c.printMap(data)
}

// headline puts text between equal signs, width wide, at least two on each side.
func headline(text string, width int) string {
	n := width - len(text) - 2
	if n <= 0 {
		n = 4
	}
	signs := strings.Repeat("=", (n+1)/2)
	return signs + " " + text + " " + signs
}

// printField prints one field of data alone: for a table as it is, with a newline only on a terminal; else as JSON.
func (c *cli) printField(data object, field string) error {
	v := data[field]
	if v == nil {
		return hint(fmt.Errorf("there is no field %q in the secret", field), "its fields are: %s", strings.Join(slices.Sorted(maps.Keys(data)), ", "))
	}
	if asJSON, err := c.asJSON(); err != nil || asJSON {
		if err != nil {
			return err
		}
		return c.printValue(v)
	}
	fmt.Fprint(c.stdout, text(v))
	if f, ok := c.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintln(c.stdout)
	}
	return nil
}

// answer prints the answer b of a read or a write: one field, JSON, or a table with the warnings on stderr.
// done is the line for an answer without content.
func (c *cli) answer(b []byte, field, done string) error {
	asJSON, err := c.asJSON()
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(b)) == 0 {
		if field != "" {
			return fmt.Errorf("there is no field %q: the answer is empty", field)
		}
		if !asJSON {
			fmt.Fprintln(c.stdout, done)
		}
		return nil
	}
	if asJSON && field == "" {
		return c.printJSON(b)
	}
	s, err := decodeSecret(b)
	if err != nil {
		return err
	}
	c.warnings(s)
	data := maps.Clone(s.Data)
	if s.Auth != nil {
		data = s.authFields()
	}
	if s.LeaseID != "" {
		if data == nil {
			data = object{}
		}
		data["lease_id"], data["lease_duration"], data["lease_renewable"] = s.LeaseID, s.LeaseDuration, s.Renewable
	}
	if field != "" {
		return c.printField(data, field)
	}
	if data == nil {
		fmt.Fprintln(c.stdout, done)
		return nil
	}
	c.printMap(data)
	return nil
}

func (c *cli) warnings(s secret) {
	for _, w := range s.Warnings {
		c.warnf("%s", w)
	}
}
