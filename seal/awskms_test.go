package seal

import (
	"bytes"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/wrappers/awskms/v2"
	"google.golang.org/protobuf/proto"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

const (
	keyA    = "arn:aws:kms:eu-central-1:111122223333:key/aaaaaaaa-0000-4000-8000-000000000001"
	keyB    = "arn:aws:kms:eu-central-1:111122223333:key/bbbbbbbb-0000-4000-8000-000000000002"
	foreign = "arn:aws:kms:eu-central-1:999999999999:key/cccccccc-0000-4000-8000-000000000003"
	mrk     = "arn:aws:kms:eu-central-1:111122223333:key/mrk-00000000000000000000000000000004"
	mrkCopy = "arn:aws:kms:us-east-1:111122223333:key/mrk-00000000000000000000000000000004"

	accessKey    = "AKIAIOSFODNN7EXAMPLE"
	secretKey    = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	sessionToken = "a-session-token-that-nobody-may-see"
)

// awsBlock is a seal at the fake, with keys in the block.
func awsBlock(k *sealtest.KMS, key string, more ...string) *Seal {
	s, err := New(block("awskms", "aws", append([]string{"kms_key_id", key, "endpoint", k.URL, "region", "eu-central-1",
		"access_key", accessKey, "secret_key", secretKey, "session_token", sessionToken}, more...)...))
	if err != nil {
		panic(err)
	}
	return s
}

func newKMS(t testing.TB) *sealtest.KMS {
	clean(t)
	k := sealtest.NewKMS(t)
	k.AddKey(keyA)
	k.AddKey(keyB)
	k.SetAlias("alias/main", keyA)
	return k
}

func TestAWSKMS(t *testing.T) {
	k := newKMS(t)
	// Trap: by itself the library takes these before what it is told.
	for _, name := range []string{"AWSKMS_WRAPPER_KEY_ID", "VAULT_AWSKMS_SEAL_KEY_ID", "AWS_KMS_ENDPOINT", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "http://127.0.0.1:1/of-the-environment")
	}
	for _, key := range []string{keyA, keyA[strings.LastIndex(keyA, "/")+1:], "alias/main", "arn:aws:kms:eu-central-1:111122223333:alias/main"} {
		s := awsBlock(k, key)
		k.Requests()
		blob, id, err := s.Wrap(soon(t), secret, aad)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if id != keyA {
			t.Errorf("%s: key ID is %s", key, id)
		}
		if got := k.Requests(); !slices.Equal(got, []string{"DescribeKey", "Encrypt", "Decrypt"}) {
			t.Errorf("Wrap asked %v", got)
		}
		opens(t, s, blob)
		if got := k.Requests(); !slices.Equal(got, []string{"DescribeKey", "Decrypt"}) {
			t.Errorf("Unwrap asked %v", got)
		}
		// KMS is told which key has to decrypt.
		if got := k.KeyIDs(); !slices.Equal(got, []string{key, key, key, key, key}) {
			t.Errorf("the keys asked for are %q", got)
		}
	}
	for _, p := range k.Plaintexts() {
		if len(p) != keySize || bytes.Contains(p, secret) {
			t.Errorf("KMS saw %q", p)
		}
	}
}

// The blob is the one of the library's own wrapper: each opens what the other made.
func TestAWSKMSLibrary(t *testing.T) {
	k := newKMS(t)
	s := awsBlock(k, keyA)
	w := awskms.NewWrapper()
	if _, err := w.SetConfig(t.Context(), wrapping.WithConfigMap(map[string]string{"kms_key_id": keyA, "endpoint": k.URL, "region": "eu-central-1",
		"access_key": accessKey, "secret_key": secretKey})); err != nil {
		t.Fatal(err)
	}
	blob, _ := roundTrip(t, s)
	info := new(wrapping.BlobInfo)
	if err := proto.Unmarshal(blob[1:], info); err != nil {
		t.Fatal(err)
	}
	got, err := w.Decrypt(t.Context(), info, wrapping.WithAad(aad))
	if err != nil || !bytes.Equal(got, secret) {
		t.Errorf("the library opens ours: %q, %v", got, err)
	}
	if info, err = w.Encrypt(t.Context(), secret, wrapping.WithAad(aad)); err != nil {
		t.Fatal(err)
	}
	if info.KeyInfo.Mechanism != awskms.AwsKmsEnvelopeAesGcmEncrypt {
		t.Errorf("the library's mechanism is %d", info.KeyInfo.Mechanism)
	}
	if blob, err = encode(info); err != nil {
		t.Fatal(err)
	}
	opens(t, s, blob)

	// Trap: mechanism 0 of the library has no associated data and would open anywhere.
	info.KeyInfo = nil
	b, err := proto.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Unwrap(soon(t), append([]byte{blobVersion}, b...), aad)
	hasClass(t, err, BlobMismatch)
}

// Traps: a wrapper without SetConfig has no client (Decrypt would panic), and the ID that SetConfig finds is not the
// ARN that Encrypt gives.
func TestAWSKMSLibraryTraps(t *testing.T) {
	k := newKMS(t)
	if awskms.NewWrapper().Client() != nil {
		t.Error("a new wrapper has a client")
	}
	w := awskms.NewWrapper()
	if _, err := w.SetConfig(t.Context(), wrapping.WithConfigMap(map[string]string{"kms_key_id": "alias/main", "endpoint": k.URL, "region": "eu-central-1",
		"access_key": accessKey, "secret_key": secretKey})); err != nil {
		t.Fatal(err)
	}
	before, _ := w.KeyId(t.Context())
	if _, err := w.Encrypt(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	after, _ := w.KeyId(t.Context())
	if before == after {
		t.Errorf("the library has changed: KeyId is %s before and after", before)
	}
	_, id := roundTrip(t, awsBlock(k, "alias/main"))
	if id != after {
		t.Errorf("ours is %s, the library's %s", id, after)
	}
}

func TestAWSKMSAliasMoved(t *testing.T) {
	k := newKMS(t)
	k.AddKey(foreign)
	s := awsBlock(k, "alias/main")
	blob, id := roundTrip(t, s)
	if id != keyA {
		t.Fatalf("key ID is %s", id)
	}
	k.SetAlias("alias/main", keyB)
	k.Requests()
	opens(t, s, blob)
	if got := k.Requests(); !slices.Equal(got, []string{"DescribeKey", "Decrypt"}) {
		t.Errorf("Unwrap asked %v", got)
	}
	if _, id = roundTrip(t, s); id != keyB {
		t.Errorf("after the move it wraps with %s", id)
	}

	// What a key of another account made is refused before KMS is asked to decrypt it.
	k.SetAlias("alias/main", foreign)
	evil, _ := roundTrip(t, s)
	k.SetAlias("alias/main", keyA)
	k.Requests()
	_, err := s.Unwrap(soon(t), evil, aad)
	hasClass(t, err, BlobMismatch, foreign, "not in the account")
	if got := k.Requests(); slices.Contains(got, "Decrypt") {
		t.Errorf("Unwrap asked %v", got)
	}
	// So it is when the blob names one of the account's keys.
	info, err := decode(evil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{keyA, keyB} {
		info.KeyInfo.KeyId = name
		forged, err := encode(info)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Unwrap(soon(t), forged, aad)
		hasClass(t, err, BlobMismatch)
	}

	// The old key of a moved alias is being deleted: Decrypt does not say so, its description does.
	k.SetAlias("alias/main", keyB)
	k.SetState(keyA, "PendingDeletion", time.Date(2031, 2, 3, 0, 0, 0, 0, time.UTC))
	_, err = s.Unwrap(soon(t), blob, aad)
	hasClass(t, err, KeyPendingDeletion, keyA, "2031-02-03")
}

func TestAWSKMSOtherKey(t *testing.T) {
	k := newKMS(t)
	a, b := awsBlock(k, keyA), awsBlock(k, keyB)
	blob, _ := roundTrip(t, a)
	_, err := b.Unwrap(soon(t), blob, aad)
	hasClass(t, err, BlobMismatch)

	for _, op := range []string{"Encrypt", "Decrypt"} {
		k.Fail(sealtest.Fault{Op: op, KeyID: keyB})
		_, _, err = a.Wrap(soon(t), secret, aad)
		hasClass(t, err, BlobMismatch, keyB, keyA)
		k.Heal()
	}
	k.Fail(sealtest.Fault{Op: "Decrypt", KeyID: "no ARN"})
	_, err = a.Unwrap(soon(t), blob, aad)
	hasClass(t, err, BlobMismatch, "no ARN")
	k.Heal()
	k.Fail(sealtest.Fault{Op: "Decrypt", WrongPlaintext: true})
	_, err = a.Unwrap(soon(t), blob, aad)
	hasClass(t, err, BlobMismatch)
	_, _, err = a.Wrap(soon(t), secret, aad)
	hasClass(t, err, BlobMismatch)
	k.Heal()
	opens(t, a, blob)

	// A multi-region key is the same key in every region.
	k.AddKey(mrk)
	m := awsBlock(k, mrk)
	blob, _ = roundTrip(t, m)
	k.Fail(sealtest.Fault{KeyID: mrkCopy})
	opens(t, m, blob)
}

func TestSameKey(t *testing.T) {
	for _, c := range []struct {
		a, b        string
		key, placed bool
	}{
		{keyA, keyA, true, true},
		{keyA, keyB, false, true},
		{keyA, strings.Replace(keyA, "eu-central-1", "us-east-1", 1), false, false},
		{keyA, strings.Replace(keyA, "111122223333", "999999999999", 1), false, false},
		{keyA, strings.Replace(keyA, "arn:aws:", "arn:aws-cn:", 1), false, false},
		{mrk, mrkCopy, true, false},
		{mrk, strings.Replace(mrkCopy, "111122223333", "999999999999", 1), false, false},
		{keyA, "", false, false},
		{"", "", false, false},
		{"arn:aws:kms:r:1:alias/x", "arn:aws:kms:r:1:alias/x", false, true},
		{"arn:aws:s3:r:1:key/x", "arn:aws:s3:r:1:key/x", false, false},
	} {
		if sameKey(c.a, c.b) != c.key || sameKey(c.b, c.a) != c.key || samePlace(c.a, c.b) != c.placed || samePlace(c.b, c.a) != c.placed {
			t.Errorf("%s, %s: same key %v, same place %v", c.a, c.b, sameKey(c.a, c.b), samePlace(c.a, c.b))
		}
	}
}

func TestAWSKMSWrongParams(t *testing.T) {
	clean(t)
	for _, c := range []struct {
		params []string
		want   string
	}{
		{nil, "kms_key_id is missing"},
		{[]string{"kms_key_id", "arn:aws:s3:::bucket"}, "is no ARN of a KMS key"},
		{[]string{"kms_key_id", "arn:aws:kms:eu-central-1:111122223333"}, "is no ARN of a KMS key"},
		{[]string{"kms_key_id", keyA, "region", "us-east-1"}, `region is "us-east-1", but the key's ARN says "eu-central-1"`},
		{[]string{"kms_key_id", keyA, "access_key", accessKey}, "access_key and secret_key belong together"},
		{[]string{"kms_key_id", keyA, "secret_key", secretKey}, "access_key and secret_key belong together"},
		{[]string{"kms_key_id", keyA, "web_identity_token_file", "/x"}, "needs role_arn"},
	} {
		_, err := New(block("awskms", "aws", c.params...))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %q", c.params, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), secretKey) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestAWSKMSDenied(t *testing.T) {
	k := newKMS(t)
	s := awsBlock(k, keyA)
	blob, _ := roundTrip(t, s)
	for _, op := range []string{"DescribeKey", "Encrypt", "Decrypt"} {
		k.Fail(sealtest.Fault{Op: op, Status: 400, Code: "AccessDeniedException", Message: "User: arn:aws:iam::111122223333:user/keep is not authorized"})
		_, _, err := s.Wrap(soon(t), secret, aad)
		hasClass(t, err, AuthDenied, "wrapping", "not allowed: kms:"+op+" on "+keyA+": add it to the key policy or the IAM policy of", accessKey, "user/keep")
		k.Heal()
	}
	k.Fail(sealtest.Fault{Op: "Decrypt", Status: 400, Code: "AccessDeniedException"})
	_, err := s.Unwrap(soon(t), blob, aad)
	hasClass(t, err, AuthDenied, "opening", "kms:Decrypt")
}

func TestAWSKMSStalls(t *testing.T) {
	k := newKMS(t)
	s := awsBlock(k, keyA)
	blob, _ := roundTrip(t, s)
	for _, op := range []string{"DescribeKey", "Decrypt"} {
		k.Fail(sealtest.Fault{Op: op, Stall: true})
		ctx, cancel := contextFor(t, 300*time.Millisecond)
		start := time.Now()
		_, err := s.Unwrap(ctx, blob, aad)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %v", op, took)
		}
		cancel()
		hasClass(t, err, Unreachable, "kms:"+op)
		k.Heal()
		opens(t, s, blob) // at once, nothing of the attempt is left
	}
	k.Stop()
	_, err := s.Unwrap(soon(t), blob, aad)
	hasClass(t, err, Unreachable, k.URL)
	k.Start()
	opens(t, s, blob)
}

// The library reads AWS_CA_BUNDLE.
func TestAWSKMSTLS(t *testing.T) {
	k := newKMS(t)
	server := httptest.NewUnstartedServer(k)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	s := awsBlock(k, keyA, "endpoint", server.URL)
	_, _, err := s.Wrap(soon(t), secret, aad)
	hasClass(t, err, TLS, "AWS_CA_BUNDLE")

	bundle := filepath.Join(t.TempDir(), "ca.pem")
	t.Setenv("AWS_CA_BUNDLE", bundle)
	_, _, err = s.Wrap(soon(t), secret, aad)
	hasClass(t, err, TLS, bundle)
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, s)

	// TLS to a plain server, and the reverse.
	_, _, err = awsBlock(k, keyA, "endpoint", strings.Replace(k.URL, "http:", "https:", 1)).Wrap(soon(t), secret, aad)
	hasClass(t, err, TLS)
}

// TestNoNetworkInSetConfig: what the library does besides our requests asks nobody, whatever the environment says. It
// runs in a process of its own, since Go reads the proxy's variables once.
func TestNoNetworkInSetConfig(t *testing.T) {
	if os.Getenv("SEAL_TEST_CHILD") != "" {
		if os.Getenv("SEAL_TEST_CHILD") == "library" { // the control: here the proxy is asked
			w := awskms.NewWrapper()
			w.SetConfig(t.Context(), wrapping.WithConfigMap(map[string]string{"key_not_required": "true", "disallow_env_vars": "true", "region": "eu-central-1",
				"access_key": accessKey, "secret_key": secretKey}))
			return
		}
		k := sealtest.NewKMS(t)
		k.AddKey(keyA)
		roundTrip(t, awsBlock(k, keyA))
		return
	}
	clean(t)
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	asked := make(chan struct{}, 1000)
	go func() {
		for {
			c, err := proxy.Accept()
			if err != nil {
				return
			}
			asked <- struct{}{}
			c.Close()
		}
	}()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, who := range []string{"library", "seal"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNoNetworkInSetConfig$")
		cmd.Env = append(os.Environ(), "SEAL_TEST_CHILD="+who, "HTTPS_PROXY=http://"+proxy.Addr().String(),
			"AWS_PROFILE=other", "AWS_SDK_LOAD_CONFIG=1", "AWS_EC2_METADATA_DISABLED=false",
			"AWS_ROLE_ARN=arn:aws:iam::111122223333:role/other", "AWS_WEB_IDENTITY_TOKEN_FILE="+write("token", "a.web.token"),
			"AWS_CONFIG_FILE="+write("config", "[profile other]\nrole_arn = arn:aws:iam::111122223333:role/x\nsource_profile = base\nregion = us-west-2\n"),
			"AWS_SHARED_CREDENTIALS_FILE="+write("credentials", "[base]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = x\n"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", who, err, out)
		}
		if n := len(asked); (n > 0) != (who == "library") {
			t.Errorf("%s: %d connections", who, n)
		}
		for len(asked) > 0 {
			<-asked
		}
	}
}
