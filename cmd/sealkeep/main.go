// Command sealkeep is the keep and its client.
//
// `sealkeep server` runs the daemon; every other command is a client of the Vault HTTP API, or works on files
// (`config check`, `operator storage check`, `keygen`). Commands live in one table (commands, below), from which the
// help and the errors about commands are generated. main only handles signals, calls run and exits: run takes its
// arguments, environment and streams as values and returns an exit code, so nothing else ends the process.
//
// Exit codes are Vault's: 0 success, 1 a local mistake, 2 an error of the server or something not found. `status` exits
// 2 when sealed; `server` and `config check` exit 78 on a wrong configuration.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/agext/levenshtein"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], snapshot(os.Environ()), os.Stdin, os.Stdout, os.Stderr))
}

// snapshot returns a lookup over a copy of the environment, which does not change when the process changes its own.
func snapshot(environ []string) func(string) (string, bool) {
	m := map[string]string{}
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	return func(k string) (string, bool) { v, ok := m[k]; return v, ok }
}

// cli is the environment of a command.
type cli struct {
	context.Context
	lookup         func(string) (string, bool)
	stdin          io.Reader // read it through input
	interruptible  io.Reader // stdin; see input
	stdout, stderr io.Writer
	remote         remote // the client's settings, filled by the flags of a remote command
}

// command is one line of the table.
type command struct {
	name     string // "kv put"
	args     string // the positional arguments as the help shows them
	min, max int    // number of arguments; max < 0 means any number
	kind     kind
	short    string // one line, for the lists
	long     string // the help text
	new      func(f *flag.FlagSet) action
}

// action runs a command after its flags were parsed.
type action func(c *cli, args []string) error

type kind int

const (
	local  kind = iota
	client      // talks to a server: has the client's flags
)

// commands is the table of all commands, in the order of the help.
func commands() []command {
	return slices.Concat(serverCommands(), statusCommands(), loginCommands(), doctorCommands(), monitorCommands(), operatorCommands(), slotCommands(), recoveryCommands(), backupCommands(), secretsCommands(), kvCommands(), genericCommands(), policyCommands(), tokenCommands(), authCommands(), wrappingCommands(), transitCommands(), stateCommands(), tofuCommands(), auditCommands(), localCommands())
}

// run runs one command line and returns the exit code.
func run(ctx context.Context, args []string, lookup func(string) (string, bool), stdin io.Reader, stdout, stderr io.Writer) int {
	c := &cli{Context: ctx, lookup: lookup, stdin: stdin, stdout: stdout, stderr: stderr}
	return c.report(c.dispatch(args))
}

func (c *cli) dispatch(args []string) error {
	table := commands()
	if len(args) > 0 && slices.Contains([]string{"-v", "-version", "--version"}, args[0]) {
		args = []string{"version"}
	}
	if len(args) > 0 && args[0] == "help" {
		args = append(slices.Clone(args[1:]), "-h")
	}
	words := len(args)
	if i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") }); i >= 0 {
		words = i
	}
	for n := min(words, 3); n > 0; n-- {
		name := strings.Join(args[:n], " ")
		for _, cmd := range table {
			if cmd.name == name {
				return c.runCommand(cmd, args[n:])
			}
		}
	}
	// Not a command: find the longest group of commands that the words name.
	group := 0
	for n := 1; n <= words && slices.ContainsFunc(table, func(cmd command) bool {
		return strings.HasPrefix(cmd.name, strings.Join(args[:n], " ")+" ")
	}); n++ {
		group = n
	}
	prefix := strings.Join(args[:group], " ")
	if group < words {
		return c.unknownCommand(table, prefix, args[group])
	}
	if len(args) > group && isHelp(args[group]) {
		fmt.Fprint(c.stdout, groupHelp(table, prefix))
		return nil
	}
	fmt.Fprint(c.stderr, groupHelp(table, prefix))
	if len(args) > group {
		return hint(fmt.Errorf("unknown flag %s", args[group]), "flags come after the command: sealkeep %s", strings.TrimLeft(prefix+" COMMAND [flags] [arguments]", " "))
	}
	return exit{1}
}

func (c *cli) unknownCommand(table []command, prefix, word string) error {
	full := strings.TrimLeft(prefix+" "+word, " ")
	best, dist := "", 3
	for _, name := range children(table, prefix) {
		if d := levenshtein.Distance(word, name, nil); d < dist {
			best, dist = name, d
		}
	}
	err := fmt.Errorf("unknown command %q", full)
	if best != "" {
		return hint(err, "did you mean %q?", strings.TrimLeft(prefix+" "+best, " "))
	}
	return hint(err, "%s lists the commands", strings.Join(strings.Fields("sealkeep help "+prefix), " "))
}

// runCommand parses the flags of cmd and runs it.
func (c *cli) runCommand(cmd command, args []string) error {
	f, act := c.flags(cmd)
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(c.stdout, commandHelp(cmd, f))
			return nil
		}
		return hint(err, "sealkeep help %s lists the flags", cmd.name)
	}
	rest, err := positional(cmd, args, f)
	if err != nil {
		return err
	}
	if len(rest) < cmd.min || cmd.max >= 0 && len(rest) > cmd.max {
		what := "not enough arguments"
		if len(rest) > cmd.min {
			what = "too many arguments"
		}
		return hint(fmt.Errorf("%s: %s", cmd.name, what), "usage: %s", usage(cmd))
	}
	err = act(c, rest)
	if w, ok := errors.AsType[wrapped](err); ok {
		field := ""
		if one := f.Lookup("field"); one != nil {
			field = one.Value.String()
		}
		return c.printWrapped(w, field)
	}
	return err
}

// flags returns the flags of cmd and its action.
func (c *cli) flags(cmd command) (*flag.FlagSet, action) {
	f := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	if cmd.kind == client {
		c.remote.register(f)
	}
	return f, cmd.new(f)
}

// positional returns the arguments after the flags. A flag among them is an error, since it would be taken for data;
// after "--" everything is an argument.
func positional(cmd command, args []string, f *flag.FlagSet) ([]string, error) {
	rest := f.Args()
	if used := len(args) - len(rest); used > 0 && args[used-1] == "--" {
		return rest, nil
	}
	for i, a := range rest {
		if a == "--" {
			return slices.Concat(rest[:i], rest[i+1:]), nil
		}
		if strings.HasPrefix(a, "-") && a != "-" {
			return nil, hint(fmt.Errorf("the flag %s stands after the arguments", a),
				"flags come first: sealkeep %s %s ...; an argument that begins with - goes after --", cmd.name, a)
		}
	}
	return rest, nil
}

func isHelp(arg string) bool { return slices.Contains([]string{"-h", "-help", "--help"}, arg) }

func usage(cmd command) string {
	return strings.TrimRight("sealkeep "+cmd.name+" [flags] "+cmd.args, " ")
}

func commandHelp(cmd command, f *flag.FlagSet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s\n\n%s\n", usage(cmd), strings.TrimSpace(cmd.long))
	for _, shared := range []bool{false, true} {
		head := "\nFlags:\n"
		if shared {
			head = "\nClient flags:\n"
		}
		f.VisitAll(func(fl *flag.Flag) {
			if (cmd.kind == client && slices.Contains(remoteFlags, fl.Name)) != shared {
				return
			}
			value, text := flag.UnquoteUsage(fl)
			fmt.Fprintf(&b, "%s  -%s", head, fl.Name)
			if head = ""; value != "" {
				fmt.Fprintf(&b, "=%s", strings.ToUpper(value))
			}
			fmt.Fprintf(&b, "\n      %s\n", text)
		})
	}
	return b.String()
}

func groupHelp(table []command, prefix string) string {
	var b strings.Builder
	if prefix == "" {
		b.WriteString("sealkeep keeps secrets encrypted behind a key that only your key service can open.\n\n" +
			"Usage: sealkeep COMMAND [flags] [arguments]\n\n" +
			"Try it:\n\n    sealkeep server -dev\n    export VAULT_ADDR=http://127.0.0.1:8200 VAULT_TOKEN=...   (printed by the server)\n" +
			"    sealkeep kv put secret/hello name=world\n")
	} else {
		fmt.Fprintf(&b, "Usage: sealkeep %s COMMAND [flags] [arguments]\n", prefix)
	}
	b.WriteString("\nCommands:\n")
	for _, cmd := range table {
		if rest, ok := strings.CutPrefix(cmd.name, strings.TrimLeft(prefix+" ", " ")); ok {
			fmt.Fprintf(&b, "    %-24s %s\n", rest, cmd.short)
		}
	}
	fmt.Fprintf(&b, "\n`%s COMMAND` tells more of one.\n", strings.TrimSpace("sealkeep help "+prefix))
	return b.String()
}

// children returns the next words of the commands that begin with prefix.
func children(table []command, prefix string) []string {
	var words []string
	for _, cmd := range table {
		if rest, ok := strings.CutPrefix(cmd.name, strings.TrimLeft(prefix+" ", " ")); ok {
			words = append(words, strings.Fields(rest)[0])
		}
	}
	return words
}
