package main

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/recovery"
)

func recoveryCommands() []command {
	return []command{
		{"operator unseal", "[SHARE|-]", 0, 1, client, "open the keep: try the seals, or give a recovery share", unsealHelp, operatorUnseal},
		{"operator recovery verify", "[SHARE|-]", 0, 1, client, "show that recovery shares, or an age identity, open the keep", verifyHelp, recoveryVerify},
		{"operator rekey", "[SHARE|-]", 0, 1, client, "make new recovery shares", rekeyHelp, operatorRekey},
		{"operator generate-root", "[SHARE|-]", 0, 1, client, "make a root token when the last one is lost", generateRootHelp, operatorGenerateRoot},
	}
}

const (
	unsealHelp = `Without an argument it tries all seals at once and shows the outcome; a keep that was sealed by request allows that to root
alone, over a listener "unix" with operator = true. When no key service opens the keep any more, people do:
each gives a recovery share, one after the other, until there are enough, or somebody gives an age identity.
SHARE is best given as -, which reads it from standard input, or asks for it on a terminal.
Exit code: 0 unsealed, 2 sealed, 1 error.`
	verifyHelp = `A drill: takes recovery shares one at a time, or an age identity, opens the recovery slot as it stands in the file, and compares
what is in it with the root key in use. The date of the drill is kept; status and slot list show it. Where two sets are open,
because of a rekey or of new recipients, a drill with the new one ends the old one.`
	rekeyHelp = `Makes new recovery shares: -init says how many, then the old ones have to be given, one at a time, or an age identity that opens
the keep. A keep that has no shares gets them at once. The new shares are printed once, and asked for on a terminal.
The old shares open the keep until enough of the new ones have been given back, here or with -verify, and end then. Until then
-init may be repeated, should the new ones be lost, and -cancel takes them away; both leave the old ones as they are. Should
the first ones of a keep be lost, operator slot remove recovery-shares, and begin again.
A rekey is no new root key: whoever has old shares and an older copy of the store, a backup say, or the bytes that are left of
the old slot in the store's file, has the key to today's store. operator rotate-root, and then operator storage compact, end
that. Backups that were made before open with the old shares: keep these as long as such backups.`
	generateRootHelp = `Makes a root token for people who can open a recovery slot: -init begins and prints a one-time password, then shares have to be
given one at a time, or an age identity; the last one gives the token in encoded form, which -decode shows with the password.
It is off unless the configuration has enable_generate_root = true.`
)

// words is a repeatable flag whose values are separated by commas.
type words []string

func (w *words) String() string { return "" }

func (w *words) Set(s string) error {
	for each := range strings.SplitSeq(s, ",") {
		*w = append(*w, strings.TrimSpace(each))
	}
	return nil
}

func ageRecipients(f *flag.FlagSet) *words {
	var w words
	f.Var(&w, "recovery-age-recipients", "age `recipients` separated by commas, one for each share, to print the shares encrypted")
	return &w
}

func identityFlag(f *flag.FlagSet) *string {
	return f.String("identity", "", "`file` with the age identity that opens the keep; - reads standard input")
}

// offer returns the body of a request with a share or an identity.
func (c *cli) offer(args []string, identity string) (object, error) {
	switch {
	case identity != "" && len(args) > 0:
		return nil, errors.New("give a share or -identity, not both")
	case identity == "-":
		b, err := io.ReadAll(io.LimitReader(c.input(), maxIdentity))
		if err != nil {
			return nil, fmt.Errorf("reading the identity: %w", err)
		}
		return object{"identity": string(b)}, nil
	case identity != "":
		b, err := readShort(identity, maxIdentity)
		if err != nil {
			return nil, fmt.Errorf("reading the identity: %w", err)
		}
		return object{"identity": string(b)}, nil
	case len(args) == 1 && args[0] != "-":
		return object{"key": args[0]}, nil
	}
	if _, terminal := c.terminal(); !terminal && len(args) == 0 {
		return nil, hint(errors.New("no share is given, and there is no terminal to ask on"), "give it as the argument, or as - to read it from standard input; or give -identity=FILE")
	}
	share, err := c.readLine("Recovery share")
	if err != nil {
		return nil, fmt.Errorf("reading the share: %w", err)
	}
	if share == "" {
		return nil, errors.New("the share is empty")
	}
	return object{"key": share}, nil
}

// maxIdentity bounds how much of an identity file is read, in bytes.
const maxIdentity = 64 << 10

func readShort(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// printShares prints new shares and what to do with them.
func (c *cli) printShares(shares []string, threshold int, set string) {
	for i, share := range shares {
		if strings.Contains(share, "\n") { // encrypted
			fmt.Fprintf(c.stdout, "Recovery Key %d:\n%s", i+1, share)
			continue
		}
		fmt.Fprintf(c.stdout, "Recovery Key %d: %s\n", i+1, share)
	}
	if len(shares) > 0 {
		if share, err := recovery.ParseShare(shares[0]); err == nil {
			set, _ = recovery.ShareSetID(share) // it was just parsed
		}
		if set != "" {
			fmt.Fprintf(c.stdout, "Set: %s\n", set)
		}
		fmt.Fprintf(c.stdout, "\nAny %d of the %d recovery keys open the keep when no key service does: sealkeep operator unseal -\n"+
			"Hand each to somebody else. They are not shown again.\n\n", threshold, len(shares))
	}
}

func operatorUnseal(f *flag.FlagSet) action {
	identity := identityFlag(f)
	reset := f.Bool("reset", false, "forget the shares that were given so far")
	migrate := f.Bool("migrate", false, "of Vault: the server says what to do instead")
	return func(c *cli, args []string) error {
		body := object{}
		var err error
		switch {
		case *migrate:
			body["migrate"] = true
		case *reset:
			body["reset"] = true
		case len(args) > 0 || *identity != "":
			if body, err = c.offer(args, *identity); err != nil {
				return err
			}
		}
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, http.MethodPut, "sys/unseal", nil, body)
		if err != nil {
			return coded{err, 1} // 2 means sealed
		}
		return c.printStatus(b)
	}
}

// drill is the data of an answer of sys/recovery/verify.
type drill struct {
	Nonce    string `json:"nonce"`
	Progress int    `json:"progress"`
	Required int    `json:"required"`
	Complete bool   `json:"complete"`
	Slots    []struct {
		Name      string    `json:"name"`
		KeyID     string    `json:"key_id"`
		Shares    int       `json:"shares,omitempty"`
		Threshold int       `json:"threshold,omitempty"`
		Set       string    `json:"set,omitempty"`
		Verified  time.Time `json:"verified,omitzero"`
		Since     time.Time `json:"since,omitzero"`
	} `json:"slots"`
}

func recoveryVerify(f *flag.FlagSet) action {
	identity := identityFlag(f)
	reset := f.Bool("reset", false, "forget the shares that were given so far")
	query := f.Bool("status", false, "only show the recovery slots and when each was last tried")
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		method, body := http.MethodPut, object(nil)
		switch {
		case *query:
			method = http.MethodGet
		case *reset:
			body = object{"reset": true}
		default:
			if body, err = c.offer(args, *identity); err != nil {
				return err
			}
		}
		var d drill
		if err := c.ask(a, method, "sys/recovery/verify", body, &d); err != nil {
			return err
		}
		if asJSON, _ := c.asJSON(); asJSON {
			return c.printValue(d)
		}
		rows := [][]string{{"Slot", "Last Verified", "Shares", "Key ID", "Set"}}
		for _, s := range d.Slots {
			shares := "n/a"
			if s.Shares > 0 {
				shares = fmt.Sprintf("%d of %d", s.Threshold, s.Shares)
			}
			rows = append(rows, []string{s.Name, shortTime(s.Verified), shares, s.KeyID, cmp.Or(s.Set, "n/a")})
		}
		switch {
		case d.Complete:
			fmt.Fprint(c.stdout, "Success! The recovery slot opens, and holds the root key in use.\n\n")
		case !*query && !*reset:
			fmt.Fprintf(c.stdout, "Progress: %d/%d\n\n", d.Progress, d.Required)
		}
		if len(d.Slots) == 0 {
			c.warnf("there is no recovery slot: sealkeep operator rekey -init makes recovery shares")
			return nil
		}
		table(c.stdout, rows)
		return nil
	}
}

// ask sends a request, prints the warnings of the answer and decodes its data.
func (c *cli) ask(a *keepClient, method, path string, body object, data any) error {
	var in any
	if body != nil {
		in = body
	}
	b, err := a.do(c, method, path, nil, in)
	if err != nil {
		return err
	}
	var out struct {
		Data     json.RawMessage `json:"data"`
		Warnings []string        `json:"warnings"`
	}
	if err := decode(b, &out); err != nil {
		return err
	}
	for _, w := range out.Warnings {
		c.warnf("%s", w)
	}
	return decode(out.Data, data)
}

// rekeyState is the data of an answer of sys/rotate/recovery.
type rekeyState struct {
	Nonce                string    `json:"nonce"`
	Started              bool      `json:"started"`
	T                    int       `json:"t"`
	N                    int       `json:"n"`
	Progress             int       `json:"progress"`
	Required             int       `json:"required"`
	Complete             bool      `json:"complete"`
	Keys                 []string  `json:"keys,omitempty"`
	KeysBase64           []string  `json:"keys_base64,omitempty"`
	VerificationRequired bool      `json:"verification_required"`
	VerificationNonce    string    `json:"verification_nonce"`
	Set                  string    `json:"set,omitempty"`
	Since                time.Time `json:"since,omitzero"`
}

// Paths for requesting new recovery shares, and for giving them back.
const (
	rekeyInit   = "sys/rotate/recovery/init"
	rekeyUpdate = "sys/rotate/recovery/update"
	rekeyVerify = "sys/rotate/recovery/verify"
)

func operatorRekey(f *flag.FlagSet) action {
	begin := f.Bool("init", false, "begin: say how many new shares there will be")
	query := f.Bool("status", false, "show how far it is; with -verify, how many new shares have been given back")
	cancel := f.Bool("cancel", false, "cancel: new shares that were not given back are removed; with -verify, start giving back again")
	verify := f.Bool("verify", false, "give a new share back; when there are enough, the old ones end")
	nonce := f.String("nonce", "", "`nonce` that -init has shown; else the one of what is under way")
	shares := f.Int("key-shares", 5, "`number` of new shares")
	threshold := f.Int("key-threshold", 3, "`number` of new shares that open the keep")
	target := f.String("target", "recovery", "of Vault: `recovery` is the only one")
	recipients, identity := ageRecipients(f), identityFlag(f)
	return func(c *cli, args []string) error {
		if *target != "recovery" {
			return hint(fmt.Errorf("there are no %s keys to make anew", *target), "recovery shares: sealkeep operator rekey -init; the root key: sealkeep operator rotate-root")
		}
		a, err := c.api()
		if err != nil {
			return err
		}
		if *verify && !*begin { // with -init, as in Vault, it requires a verification, which is always required here
			return c.rekeyVerify(a, args, *identity, *nonce, *query, *cancel)
		}
		var s rekeyState
		switch {
		case *cancel:
			_, err := a.do(c, http.MethodDelete, rekeyInit, nil, nil)
			return c.done(err, "Success! No new recovery shares are being made, and none wait to be given back.")
		case *query:
			err = c.ask(a, http.MethodGet, rekeyInit, nil, &s)
		case *begin:
			body := object{"secret_shares": *shares, "secret_threshold": *threshold}
			if *recipients != nil {
				body["recovery_age_recipients"] = *recipients
			}
			err = c.ask(a, http.MethodPost, rekeyInit, body, &s)
		default:
			var body object
			if body, err = c.offer(args, *identity); err != nil {
				return err
			}
			if body["nonce"], err = c.nonce(a, rekeyInit, *nonce); err != nil {
				return err
			}
			err = c.ask(a, http.MethodPost, rekeyUpdate, body, &s)
		}
		if err != nil {
			return err
		}
		if asJSON, _ := c.asJSON(); asJSON {
			return c.printValue(s)
		}
		switch {
		case s.Complete:
			c.printShares(s.KeysBase64, s.T, s.Set)
			return c.giveBack(a, s)
		case s.Started:
			table(c.stdout, [][]string{{"Key", "Value"}, {"Nonce", s.Nonce}, {"Started", "true"}, {"Progress", fmt.Sprintf("%d/%d", s.Progress, s.Required)},
				{"New Shares", fmt.Sprint(s.N)}, {"New Threshold", fmt.Sprint(s.T)}})
		default:
			fmt.Fprintln(c.stdout, "No new recovery shares are being made.")
		}
		if !s.Since.IsZero() {
			c.warnf("two sets of recovery shares are open since %s: the old one ends when enough shares of the new one, set %s, are given: sealkeep operator rekey -verify -; "+
				"-cancel takes the new one away", shortTime(s.Since), s.Set)
		}
		return nil
	}
}

// verifyState is the data of an answer of sys/rotate/recovery/verify.
type verifyState struct {
	Nonce    string `json:"nonce"`
	Started  bool   `json:"started"`
	T        int    `json:"t"`
	N        int    `json:"n"`
	Progress int    `json:"progress"`
	Complete bool   `json:"complete"`
}

const givenBack = "Success! The new recovery shares are in force, and the old ones have ended.\n"

// rekeyVerify is operator rekey -verify.
func (c *cli) rekeyVerify(a *keepClient, args []string, identity, nonce string, query, cancel bool) error {
	var s verifyState
	var err error
	switch {
	case cancel:
		err = c.ask(a, http.MethodDelete, rekeyVerify, nil, &s)
	case query:
		err = c.ask(a, http.MethodGet, rekeyVerify, nil, &s)
	case identity != "":
		return hint(errors.New("an identity does not show that anybody has the new shares"), "give one of them: sealkeep operator rekey -verify -")
	default:
		var body object
		if body, err = c.offer(args, ""); err != nil {
			return err
		}
		if body["nonce"], err = c.nonce(a, rekeyVerify, nonce); err != nil {
			return err
		}
		err = c.ask(a, http.MethodPut, rekeyVerify, body, &s)
	}
	if err != nil {
		return err
	}
	if asJSON, _ := c.asJSON(); asJSON {
		return c.printValue(s)
	}
	if s.Complete {
		fmt.Fprint(c.stdout, givenBack)
		return nil
	}
	table(c.stdout, [][]string{{"Key", "Value"}, {"Nonce", s.Nonce}, {"Progress", fmt.Sprintf("%d/%d", s.Progress, s.T)}, {"New Shares", fmt.Sprint(s.N)}})
	return nil
}

// giveBack asks on a terminal for the shares that were just printed, so that the old ones end, or the first ones are known
// to open the keep. Without a terminal it does nothing: the warnings of the answer have said what to do.
func (c *cli) giveBack(a *keepClient, made rekeyState) error {
	if _, terminal := c.terminal(); !terminal {
		return nil
	}
	path, later := rekeyVerify, "sealkeep operator rekey -verify -"
	if !made.VerificationRequired {
		path, later = "sys/recovery/verify", "sealkeep operator recovery verify -"
	}
	fmt.Fprintf(c.stderr, "Give %d of the new shares back, to show that they have been kept. An empty line leaves that for later: %s\n", made.T, later)
	for have := 0; ; {
		share, err := c.readLine(fmt.Sprintf("New recovery share, %d of %d", have+1, made.T))
		if err != nil {
			return fmt.Errorf("reading the share: %w", err)
		}
		if share == "" {
			return nil
		}
		var s verifyState
		err = c.ask(a, http.MethodPut, path, object{"key": share, "nonce": made.VerificationNonce}, &s)
		if refused, ok := errors.AsType[*apiError](err); ok && (refused.code == http.StatusBadRequest || refused.code == http.StatusTooManyRequests) {
			fmt.Fprintf(c.stderr, "sealkeep: error: %s\n", strings.Join(refused.errors, "; "))
			continue
		}
		if err != nil {
			return err
		}
		if have = s.Progress; !s.Complete {
			continue
		}
		if !made.VerificationRequired {
			fmt.Fprint(c.stdout, "Success! The recovery shares open the keep.\n")
			return nil
		}
		fmt.Fprint(c.stdout, givenBack)
		break
	}
	yes, err := c.confirm("The root key is the one of before. Make a new one, so that the old shares open no later copy either?")
	if err != nil || !yes {
		return err
	}
	b, err := a.do(c, http.MethodPut, "sys/rotate/root", nil, object{})
	return c.changed(b, err, "Success! The root key is a new one: sealkeep status shows its fingerprint.")
}

// confirm asks a yes-or-no question on a terminal. Without a terminal the answer is no.
func (c *cli) confirm(question string) (bool, error) {
	if _, ok := c.terminal(); !ok {
		return false, nil
	}
	fmt.Fprint(c.stderr, question+" [y/N] ")
	line, err := c.readTerminal()
	if err != nil && !errors.Is(err, errNothing) {
		return false, err
	}
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes", nil
}

// nonce returns the given nonce or, if there is none, that of the operation in progress.
func (c *cli) nonce(a *keepClient, path, given string) (string, error) {
	if given != "" {
		return given, nil
	}
	var s struct{ Nonce string }
	err := c.ask(a, http.MethodGet, path, nil, &s)
	return s.Nonce, err
}

// rootState is the data of an answer of sys/generate-root.
type rootState struct {
	Nonce        string `json:"nonce"`
	Started      bool   `json:"started"`
	Progress     int    `json:"progress"`
	Required     int    `json:"required"`
	Complete     bool   `json:"complete"`
	EncodedToken string `json:"encoded_token"`
	OTP          string `json:"otp"`
	OTPLength    int    `json:"otp_length"`
}

func operatorGenerateRoot(f *flag.FlagSet) action {
	begin := f.Bool("init", false, "begin, and print the one-time password unless -otp gives one")
	query := f.Bool("status", false, "show how far it is")
	cancel := f.Bool("cancel", false, "cancel root generation")
	encoded := f.String("decode", "", "show the `token` that came encoded, with -otp; - reads it from standard input")
	otp := f.String("otp", "", "the one-time `password`")
	nonce := f.String("nonce", "", "`nonce` that -init has shown; else the one of what is under way")
	identity := identityFlag(f)
	const attempt = "sys/generate-root/attempt"
	return func(c *cli, args []string) error {
		if *encoded != "" {
			return c.decodeRoot(*encoded, *otp)
		}
		a, err := c.api()
		if err != nil {
			return err
		}
		var s rootState
		switch {
		case *cancel:
			_, err := a.do(c, http.MethodDelete, attempt, nil, nil)
			return c.done(err, "Success! No root token is being made.")
		case *query:
			err = c.ask(a, http.MethodGet, attempt, nil, &s)
		case *begin:
			err = c.ask(a, http.MethodPut, attempt, object{"otp": *otp}, &s)
		default:
			var body object
			if body, err = c.offer(args, *identity); err != nil {
				return err
			}
			if body["nonce"], err = c.nonce(a, attempt, *nonce); err != nil {
				return err
			}
			err = c.ask(a, http.MethodPut, "sys/generate-root/update", body, &s)
		}
		if err != nil {
			return err
		}
		if asJSON, _ := c.asJSON(); asJSON {
			return c.printValue(s)
		}
		rows := [][]string{{"Key", "Value"}, {"Nonce", s.Nonce}, {"Started", fmt.Sprint(s.Started)},
			{"Progress", fmt.Sprintf("%d/%d", s.Progress, s.Required)}, {"Complete", fmt.Sprint(s.Complete)}}
		if s.EncodedToken != "" {
			rows = append(rows, []string{"Encoded Token", s.EncodedToken})
		}
		if s.OTP != "" {
			rows = append(rows, []string{"OTP", s.OTP})
		}
		rows = append(rows, []string{"OTP Length", fmt.Sprint(s.OTPLength)})
		table(c.stdout, rows)
		if s.Complete {
			fmt.Fprintln(c.stderr, "sealkeep: hint: sealkeep operator generate-root -decode=TOKEN -otp=PASSWORD shows the root token")
		}
		return nil
	}
}

// decodeRoot decrypts a token with its one-time password. It needs no server.
func (c *cli) decodeRoot(encoded, otp string) error {
	if encoded == "-" {
		line, err := c.readLine("Encoded token")
		if err != nil {
			return fmt.Errorf("reading the token: %w", err)
		}
		encoded = line
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return hint(errors.New("the token is not in base64"), "it is the Encoded Token that the last share has given")
	}
	if len(b) != len(otp) {
		return hint(fmt.Errorf("the one-time password has %d characters, the token %d", len(otp), len(b)), "give the OTP that -init has printed: -otp=PASSWORD")
	}
	for i := range b {
		b[i] ^= otp[i]
	}
	if asJSON, _ := c.asJSON(); asJSON {
		return c.printValue(object{"token": string(b)})
	}
	fmt.Fprintln(c.stdout, string(b))
	return nil
}
