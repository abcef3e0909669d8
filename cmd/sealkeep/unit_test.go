package main

import (
	"bufio"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const unitFile = "../../examples/sealkeep.service"

// TestUnit holds that the example unit runs this program: its command lines parse, its exit code and its environment
// are those of the code.
func TestUnit(t *testing.T) {
	f, err := os.Open(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unit := map[string][]string{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if key, value, ok := strings.Cut(sc.Text(), "="); ok && !strings.HasPrefix(key, "#") {
			unit[key] = append(unit[key], value)
		}
	}
	started := 0
	for _, line := range append(unit["ExecStart"], unit["ExecReload"]...) {
		words := strings.Fields(line)
		if filepath.Base(words[0]) != "sealkeep" {
			continue
		}
		started++
		for _, cmd := range commands() {
			if cmd.name == words[1] {
				fs := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
				fs.SetOutput(io.Discard)
				cmd.new(fs)
				if err := fs.Parse(words[2:]); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			}
		}
	}
	if started != 1 {
		t.Errorf("%d command lines run sealkeep", started)
	}
	for key, want := range map[string]string{
		"RestartPreventExitStatus": "78", "Type": "notify", "NotifyAccess": "main", "StateDirectory": "sealkeep",
		"LimitCORE": "0", "MemorySwapMax": "0", "StateDirectoryMode": "0700",
		"RuntimeDirectory": "sealkeep", "RuntimeDirectoryMode": "0755",
		"SystemCallFilter": "@system-service ~@privileged @resources fchownat", "CapabilityBoundingSet": "",
	} {
		if got := strings.Join(unit[key], " "); got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
	if families := strings.Join(unit["RestrictAddressFamilies"], " "); !strings.Contains(families, "AF_UNIX") {
		t.Error("without AF_UNIX the notifications of readiness are lost")
	}
}

// TestUnitVerify lets systemd read the units, where it is installed.
func TestUnitVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	units, err := filepath.Glob("../../examples/*.service")
	if err != nil || len(units) != 2 {
		t.Fatalf("found %v (%v)", units, err)
	}
	dir := t.TempDir()
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		// systemd looks for the program: any will do.
		path := filepath.Join(dir, filepath.Base(unit))
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "/usr/bin/sealkeep", "/bin/true")), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || strings.Contains(string(out), filepath.Base(unit)) {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
