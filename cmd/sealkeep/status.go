package main

import (
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

func statusCommands() []command {
	return []command{
		{"status", "", 0, 0, client, "show whether the keep is open", "Shows the state of the keep, on which key each slot hangs, and for a sealed one why each slot did not open. An open keep is\nsettled when every seal of the configuration has a slot that opens and hangs on the key in force; until then, take no key away.\nExit code: 0 unsealed, 2 sealed, 1 error.", status},
	}
}

// sealStatus is the answer of sys/seal-status; unknown fields are ignored.
type sealStatus struct {
	Type         string `json:"type"`
	Initialized  bool   `json:"initialized"`
	Sealed       bool   `json:"sealed"`
	N            int    `json:"n"`
	T            int    `json:"t"`
	Progress     int    `json:"progress"`
	Nonce        string `json:"nonce"`
	Version      string `json:"version"`
	BuildDate    string `json:"build_date"`
	StorageType  string `json:"storage_type"`
	ClusterName  string `json:"cluster_name"`
	ClusterID    string `json:"cluster_id"`
	RecoverySeal bool   `json:"recovery_seal"`
	Fingerprint  string `json:"fingerprint"`
	Held         bool   `json:"held"`
	KeepHeld     bool   `json:"held_keep"`
	Settled      bool   `json:"settled"`
	Slots        []struct {
		Name  string `json:"name"`
		Type  string `json:"type"`
		KeyID string `json:"key_id"`
		Force string `json:"key_in_force"`
		State string `json:"state"`
		Class string `json:"class"`
		Error string `json:"error"`
		Hint  string `json:"hint"`
	} `json:"slots"`
	Warnings []string `json:"warnings"`
}

func status(*flag.FlagSet) action {
	return func(c *cli, _ []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, http.MethodGet, "sys/seal-status", nil, nil)
		if err != nil {
			return coded{err, 1} // 2 means sealed
		}
		return c.printStatus(b)
	}
}

// printStatus prints the answer b of sys/seal-status; the error says with exit code 2 that the keep is sealed.
func (c *cli) printStatus(b []byte) error {
	var s sealStatus
	if err := decode(b, &s); err != nil {
		return coded{err, 1}
	}
	if asJSON, _ := c.asJSON(); asJSON {
		if err := c.printJSON(b); err != nil {
			return coded{err, 1}
		}
	} else {
		c.statusTable(s)
	}
	if s.Sealed {
		return exit{2}
	}
	return nil
}

func (c *cli) statusTable(s sealStatus) {
	rows := [][]string{{"Key", "Value"}}
	add := func(key, format string, args ...any) {
		if v := fmt.Sprintf(format, args...); v != "" {
			rows = append(rows, []string{key, v})
		}
	}
	add("Seal Type", "%s", s.Type)
	add("Initialized", "%t", s.Initialized)
	add("Sealed", "%t", s.Sealed)
	if s.Initialized && !s.Sealed {
		add("Settled", "%t", s.Settled)
	}
	if s.Held {
		add("Held", "%t", true)
	}
	if s.N > 0 {
		add("Total Recovery Shares", "%d", s.N)
		add("Threshold", "%d", s.T)
	}
	if s.Sealed && s.Progress > 0 {
		add("Unseal Progress", "%d/%d", s.Progress, s.T)
		add("Unseal Nonce", "%s", s.Nonce)
	}
	add("Version", "%s", s.Version)
	add("Build Date", "%s", s.BuildDate)
	add("Storage Type", "%s", s.StorageType)
	add("Cluster Name", "%s", s.ClusterName)
	add("Cluster ID", "%s", s.ClusterID)
	add("HA Enabled", "false")
	add("Fingerprint", "%s", s.Fingerprint)
	for _, sl := range s.Slots {
		add("Slot "+sl.Name, "%s", strings.TrimSpace(sl.State+" "+sl.Class))
		if sl.KeyID != "" && !recoverySlot(sl.Name) {
			add("", "on the key %s", sl.KeyID)
		}
		if tell := s.Sealed || sl.State == "pending" || sl.Class != ""; tell {
			add("", "%s", sl.Error)
			add("", "%s", sl.Hint)
		}
	}
	table(c.stdout, rows)
	for _, w := range s.Warnings {
		c.warnf("%s", w)
	}
	switch {
	case !s.Initialized:
		fmt.Fprintln(c.stderr, "sealkeep: hint: sealkeep operator init makes the store")
	case s.Held:
		fmt.Fprintln(c.stderr, "sealkeep: hint: it was sealed by request: "+heldHint(s.KeepHeld))
	}
}

// writeFile replaces a file with one of that mode; after an error the old file is unchanged.
func writeFile(path, content string, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".sealkeep-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.WriteString(content); err != nil {
		return err
	}
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
