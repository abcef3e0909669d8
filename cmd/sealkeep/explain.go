package main

import (
	"flag"
	"io"

	"github.com/sealkeep/sealkeep/config"
)

// configFlags registers the flags that `config explain` and `config env` have in common.
func configFlags(f *flag.FlagSet) (configs *paths, format *string) {
	configs = new(paths)
	f.Var(configs, "config", "configuration `file or folder`; can be repeated; none: the environment alone")
	return configs, f.String("format", "", "`table` or json; else VAULT_FORMAT")
}

// readConfig reads a configuration for a command that shows it, and reports whether to show it as JSON.
func (c *cli) readConfig(configs paths, format string) (conf *config.Config, asJSON bool, err error) {
	c.remote.format = format
	if asJSON, err = c.asJSON(); err != nil {
		return nil, false, err
	}
	conf, seals, err := loadConfig(configs, c.lookup)
	if err != nil {
		return nil, false, err
	}
	closeAll(seals)
	return conf, asJSON, nil
}

func configExplain(f *flag.FlagSet) action {
	configs, format := configFlags(f)
	return func(c *cli, _ []string) error {
		conf, asJSON, err := c.readConfig(*configs, *format)
		if err != nil {
			return err
		}
		if asJSON {
			warnings := conf.Warnings
			if warnings == nil {
				warnings = []string{}
			}
			return c.printValue(object{"settings": conf.Settings, "warnings": warnings})
		}
		for _, w := range conf.Warnings {
			c.warnf("%s", w)
		}
		showSettings(c.stdout, conf)
		return nil
	}
}

// showSettings prints every setting in force as a table.
func showSettings(w io.Writer, conf *config.Config) {
	rows := [][]string{{"Scope", "Key", "Value", "Origin"}}
	for _, s := range conf.Settings {
		rows = append(rows, []string{s.Scope, s.Key, s.Value, s.Origin})
	}
	table(w, rows)
}

func configEnv(f *flag.FlagSet) action {
	configs, format := configFlags(f)
	return func(c *cli, _ []string) error {
		conf, asJSON, err := c.readConfig(*configs, *format)
		if err != nil {
			return err
		}
		vars := conf.Variables(c.lookup)
		if asJSON {
			return c.printValue(vars)
		}
		rows := [][]string{{"Variable", "Value", "Steers", "Of", "Over the file"}}
		for _, v := range vars {
			value, over := "-", "yields"
			if v.Set {
				value = v.Value
			}
			switch {
			case v.Wins:
				over = "wins"
			case v.SDK:
				over = "yields (AWS SDK)"
			}
			rows = append(rows, []string{v.Name, value, v.Key, v.Scope, over})
		}
		table(c.stdout, rows)
		return nil
	}
}
