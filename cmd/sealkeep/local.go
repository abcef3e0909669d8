package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/recovery"
	"github.com/sealkeep/sealkeep/seal"
)

// wrongConfig is the exit code for a wrong configuration (EX_CONFIG): a service manager does not retry it.
const wrongConfig = 78

func localCommands() []command {
	return []command{
		{"config check", "", 0, 0, local, "check a configuration", "Reads a configuration as the server does, and asks no key service. Exit code: 0 valid, 78 wrong.", configCheck},
		{"config explain", "", 0, 0, local, "show every setting and where it comes from", "Shows every setting in force, with its value and its origin: file and line, the variable's name, or default. Secrets are\nhidden. Asks no key service. Exit code: 0 valid, 78 wrong.", configExplain},
		{"config env", "", 0, 0, local, "show the environment variables that apply", "Shows the environment variables that have a say in a configuration: which are set, what each steers, and whether it wins over\nthe file or yields. Secrets are hidden. Exit code: 0 valid, 78 wrong.", configEnv},
		{"keygen", "", 0, 0, local, "make a key for a static seal", "Makes a random key for `seal \"static\"`: base64 on standard output, or in a new file with -out. It never overwrites.", keygen},
		{"version", "", 0, 0, local, "show the version", "Shows the version of this program.", showVersion},
	}
}

// loadConfig reads a configuration and makes its seals, which asks no key service. The error lists every mistake and
// has exit code 78. Afterwards the environment is only available through lookup: see clearEnv.
func loadConfig(paths []string, lookup func(string) (string, bool)) (*config.Config, []*seal.Seal, error) {
	clearEnv()
	conf, err := config.Load(paths, lookup)
	if err != nil {
		return nil, nil, coded{err, wrongConfig}
	}
	var seals []*seal.Seal
	var wrong config.Error
	for _, s := range conf.Seals {
		made, err := seal.New(s)
		if err != nil {
			wrong.Mistakes = append(wrong.Mistakes, err.Error())
			continue
		}
		seals = append(seals, made)
	}
	if len(conf.Recovery) > 0 {
		if err := recovery.CheckRecipients(conf.Recovery); err != nil {
			wrong.Mistakes = append(wrong.Mistakes, recipientsAt(conf)+": "+err.Error())
		}
	}
	if wrong.Mistakes != nil {
		closeAll(seals)
		return nil, nil, coded{&wrong, wrongConfig}
	}
	return conf, seals, nil
}

// recipientsAt returns where the configuration names the age recipients.
func recipientsAt(conf *config.Config) string {
	for _, s := range conf.Settings {
		if s.Key == "recipients" {
			return s.Origin
		}
	}
	return "recovery"
}

func closeAll(seals []*seal.Seal) {
	for _, s := range seals {
		s.Close()
	}
}

// clearEnv removes Vault's variables from this process's environment, of which main keeps a copy. Otherwise the library
// beneath the transit seal would obey them again, and child processes would inherit tokens. The two that it sets bound
// that library's calls.
func clearEnv() {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "VAULT_") || strings.HasPrefix(name, "BAO_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("VAULT_CLIENT_TIMEOUT", "3") // seconds
	os.Setenv("VAULT_MAX_RETRIES", "0")
}

func configCheck(f *flag.FlagSet) action {
	var configs paths
	f.Var(&configs, "config", "configuration `file or folder`; can be repeated; none: the environment alone")
	return func(c *cli, _ []string) error {
		conf, seals, err := loadConfig(configs, c.lookup)
		if err != nil {
			return err
		}
		defer closeAll(seals)
		for _, w := range conf.Warnings {
			c.warnf("%s", w)
		}
		for _, l := range conf.Listeners {
			if !l.TLSDisable {
				if _, err := loadCertificate(l); err != nil {
					return err
				}
			}
		}
		fmt.Fprint(c.stdout, "The configuration is valid\n\n")
		rows := [][]string{{"Seal", "Type", "Priority", "Enabled", "From"}}
		for _, s := range conf.Seals {
			rows = append(rows, []string{s.Name, s.Type, fmt.Sprint(s.Priority), fmt.Sprint(!s.Disabled), origin(s)})
		}
		table(c.stdout, rows)
		return nil
	}
}

// origin says where a seal comes from: its block, and the variables that affect it.
func origin(s config.Seal) string {
	from := []string{s.At}
	for _, k := range slices.Sorted(maps.Keys(s.Params)) {
		if p := s.Params[k]; !strings.Contains(p.Origin, ":") && p.Origin != "default" && !slices.Contains(from, p.Origin) {
			from = append(from, p.Origin)
		}
	}
	return strings.Join(from, ", ")
}

func keygen(f *flag.FlagSet) action {
	out := f.String("out", "", "`file` to make, mode 0600")
	return func(c *cli, _ []string) error {
		key, id := seal.NewKey()
		if *out == "" {
			fmt.Fprintf(c.stdout, "%s\n", key)
			fmt.Fprint(c.stderr, "sealkeep: hint: -out FILE puts the key in a file, which is safer than in the configuration\n"+staticBlock("THE KEY", id))
			return nil
		}
		if err := createFile(*out, key+"\n"); err != nil {
			if errors.Is(err, fs.ErrExist) {
				return hint(fmt.Errorf("making the key: %s is there already", *out), "it may be the only key of a store: choose another name")
			}
			return fmt.Errorf("making the key: %w", err)
		}
		fmt.Fprintf(c.stderr, "sealkeep: hint: keep a copy of %s elsewhere: without it the store cannot be opened\n%s", *out, staticBlock("file://"+absolute(*out), id))
		return nil
	}
}

// staticBlock returns the block that the configuration needs for a key.
func staticBlock(key, id string) string {
	return fmt.Sprintf("\nseal \"static\" {\n  current_key    = %q\n  current_key_id = %q\n}\n", key, id)
}

// createFile creates a new file with mode 0600, and leaves none behind after an error.
func createFile(path, content string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(path)
		}
	}()
	if _, err = f.WriteString(content); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func showVersion(*flag.FlagSet) action {
	return func(c *cli, _ []string) error {
		v, date := build()
		if date != "" {
			date = ", built " + date
		}
		fmt.Fprintf(c.stdout, "sealkeep v%s%s\n", v, date)
		return nil
	}
}

// absolute returns path as an absolute path, as a configuration needs it.
func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}
