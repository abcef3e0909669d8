package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sealkeep": main})
}

// TestScript runs the scripts of testdata/script, which read like an operator's notebook. Beside testscript's own
// commands they have:
//
//	freeport NAME...           sets variables to free TCP ports of loopback
//	waitfor ADDRESS            waits until something listens on host:port or on a socket's path
//	eventually [!] CMD ARGS... runs a command until it succeeds (or fails)
//	exits CODE CMD ARGS...     runs a command that must end with this code
//	signal NAME                sends a signal (HUP, TERM) to every background command
//	setfrom NAME FIELD         sets a variable to a field (a.b: one inside another) of the JSON object on stdout
//	keyservice start|stop|rotate   the Transit fake at $TRANSIT_ADDR, with a key named keep
//	certificate NAME CN        makes NAME.pem and NAME.key, signed by the authority in ca.pem
//	peer ADDRESS CN            waits until the TLS server has the certificate of that name
//	drain ADDRESS              begins a write, sends TERM, and ends the write when no new connection is taken
func TestScript(t *testing.T) {
	runScripts(t, "testdata/script", nil)
}

// TestMoto runs the scripts of testdata/moto against moto_server. Where that is not installed they are skipped, or fail
// when SEALKEEP_REQUIRE_MOTO=1.
func TestMoto(t *testing.T) {
	m := sealtest.Moto(t)
	_, other := m.CreateKey(sealtest.Own)
	runScripts(t, "testdata/moto", []string{
		"MOTO_URL=" + m.URL, "KMS_KEY_ID=" + m.KeyID, "KMS_KEY_ARN=" + m.KeyARN, "OTHER_KEY_ARN=" + other, "MOTO_REGION=" + sealtest.MotoRegion,
		"MOTO_ACCESS_KEY=" + sealtest.Own.AccessKey, "MOTO_SECRET_KEY=" + sealtest.Own.SecretKey,
	})
}

type fakes struct {
	transit *sealtest.Transit
	ca      *authority
}

const patience = 20 * time.Second // before a condition that a script waits for counts as a failure

func runScripts(t *testing.T, dir string, vars []string) {
	if found, err := filepath.Glob(dir + "/*.txt"); err != nil || len(found) == 0 {
		t.Fatalf("no scripts in %s (%v)", dir, err)
	}
	issuer := newIssuer(t)
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			f := &fakes{transit: sealtest.NewTransit(t), ca: newAuthority()}
			f.transit.AddKey("keep")
			e.Values[fakes{}] = f
			e.Vars = append(e.Vars, "HOME="+e.WorkDir, "TRANSIT_ADDR="+f.transit.URL, "TRANSIT_TOKEN="+f.transit.Token, "AWS_EC2_METADATA_DISABLED=true",
				"ISSUER="+issuer, "EXAMPLES="+examples)
			e.Vars = append(e.Vars, vars...)
			return os.WriteFile(filepath.Join(e.WorkDir, "ca.pem"), f.ca.pem, 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeport": freeport, "waitfor": waitfor, "eventually": eventually, "exits": exits, "signal": sendSignal,
			"setfrom": setFrom, "keyservice": keyService, "certificate": makeCertificate, "peer": waitForPeer, "drain": drain,
		},
	})
}

func freeport(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer l.Close() // after all were taken, so that no two are the same
		ts.Setenv(name, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
}

// until calls try until it says nothing or patience ends.
func until(ts *testscript.TestScript, try func() error) {
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %v: %v", patience, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func waitfor(ts *testscript.TestScript, _ bool, args []string) {
	network := "tcp"
	if strings.Contains(args[0], "/") {
		network = "unix"
	}
	until(ts, func() error {
		conn, err := net.DialTimeout(network, args[0], time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func eventually(ts *testscript.TestScript, _ bool, args []string) {
	fails := args[0] == "!"
	if fails {
		args = args[1:]
	}
	until(ts, func() error {
		err := ts.Exec(args[0], args[1:]...)
		if fails && err == nil {
			return errors.New("it succeeds")
		}
		if fails {
			return nil
		}
		return err
	})
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		ended, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = ended.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, not %d", got, want)
	}
}

func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	s, ok := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM}[args[0]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[0])
	}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(s))
	}
}

func setFrom(ts *testscript.TestScript, _ bool, args []string) {
	var o any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &o))
	for name := range strings.SplitSeq(args[1], ".") {
		inner, _ := o.(map[string]any)
		o = inner[name]
	}
	v, ok := o.(string)
	if !ok || v == "" {
		ts.Fatalf("no text in the field %s", args[1])
	}
	ts.Setenv(args[0], v)
}

func keyService(ts *testscript.TestScript, _ bool, args []string) {
	switch f := ts.Value(fakes{}).(*fakes); args[0] {
	case "start":
		f.transit.Start()
	case "stop":
		f.transit.Stop()
	case "rotate":
		f.transit.AddKey("keep")
	default:
		ts.Fatalf("keyservice start, stop or rotate")
	}
}

// authority signs the certificates of one script.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority() *authority {
	a := &authority{key: newKey()}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		panic(err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func newKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func makeCertificate(ts *testscript.TestScript, _ bool, args []string) {
	cert, key, err := ts.Value(fakes{}).(*fakes).ca.issue(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pem"), cert, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".key"), key, 0o600))
}

// issue makes a certificate for a server on loopback or a client, and its key, both in PEM form.
func (a *authority) issue(name string) (cert, private []byte, err error) {
	key := newKey()
	t := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if cert, err = x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key); err != nil {
		return nil, nil, err
	}
	if private, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), nil
}

// waitForPeer waits for a server whose certificate has the name args[1].
func waitForPeer(ts *testscript.TestScript, _ bool, args []string) {
	roots := x509.NewCertPool()
	roots.AddCert(ts.Value(fakes{}).(*fakes).ca.cert)
	until(ts, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots}}).DialContext(ctx, "tcp", args[0])
		if err != nil {
			return err
		}
		defer conn.Close()
		if got := conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName; got != args[1] {
			return fmt.Errorf("the certificate is for %q", got)
		}
		return nil
	})
}

// drain is a write that the keep is told to stop in the middle of. It must still be answered.
func drain(ts *testscript.TestScript, _ bool, args []string) {
	conn, err := net.Dial("tcp", args[0])
	ts.Check(err)
	defer conn.Close()
	ts.Check(conn.SetDeadline(time.Now().Add(patience)))
	body := `{"data": {"value": "written while draining"}}`
	fmt.Fprintf(conn, "POST /v1/secret/data/drained HTTP/1.1\r\nHost: keep\r\nX-Vault-Token: %s\r\nContent-Length: %d\r\n\r\n%s",
		ts.Getenv("VAULT_TOKEN"), len(body), body[:10])
	// The request counts as under way once the keep has read its head: another one, sent later, is answered by then.
	ts.Check(ts.Exec("sealkeep", "status"))
	sendSignal(ts, false, []string{"TERM"})
	until(ts, func() error {
		other, err := net.Dial("tcp", args[0])
		if err != nil {
			return nil
		}
		other.Close()
		return errors.New("the keep still takes connections")
	})
	_, err = io.WriteString(conn, body[10:])
	ts.Check(err)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	ts.Check(err)
	if !strings.Contains(answer, " 200 ") {
		ts.Fatalf("the answer is %q", answer)
	}
}
