package seal

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	awsarn "github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go/aws/awserr"
	"github.com/aws/aws-sdk-go/service/kms"
)

func (k *awsKMS) diagnose(ctx context.Context, d *diagnosis) {
	c := k.diagnoseLogin(ctx, d)
	if c == nil {
		return
	}
	endpoint := k.login.kms()
	if api, ok := c.api.(*kms.KMS); ok && endpoint == "" {
		endpoint = api.Endpoint
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if name := os.Getenv("AWS_CA_BUNDLE"); name != "" {
		t.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		pem, err := os.ReadFile(name)
		if err != nil || !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) { // the login was able to read it
			d.fail("connection", &Error{Kind: TLS, Err: err, Text: "the file of AWS_CA_BUNDLE has changed and cannot be used: it must have certificates in PEM"})
			return
		}
	}
	if _, ok := d.reach(ctx, t, endpoint, true); !ok {
		return
	}
	k.diagnoseKey(ctx, d, c)
}

// diagnoseLogin adds steps about credentials and region. It returns a client that has them, or nil if there are none.
func (k *awsKMS) diagnoseLogin(ctx context.Context, d *diagnosis) *kmsClient {
	ctx, cancel := context.WithTimeout(ctx, 2*stepTimeout) // it may first look for an instance in vain
	defer cancel()
	c, creds, region, err := k.logIn(ctx)
	if err != nil {
		d.fail("credentials", err)
		return nil
	}
	text := "the access key " + creds.AccessKeyID + " of " + sourceOf(creds)
	if role := k.login.block.Get("role_arn"); role != "" {
		text += ", which is " + role
	}
	if base, ok := k.login.keys(ctx); ok && base.AccessKeyID != creds.AccessKeyID {
		text += ", taken with the access key " + base.AccessKeyID + " of " + sourceOf(base)
	}
	if p, ok := k.login.block.Params["access_key"]; ok {
		text += " (" + p.Origin + ")"
	}
	if where := k.login.fixed(ctx); where != "" {
		d.warn("credentials", "use a role, a profile or keys that last", "%s; they are temporary (session token in %s), and nobody renews them", text, where)
	} else if creds.CanExpire {
		d.ok("credentials", "%s; they are temporary, and renewed at %s", text, creds.Expires.UTC().Format(time.RFC3339))
	} else {
		d.ok("credentials", "%s; they do not end by themselves", text)
	}
	origin := "the profile or the instance"
	if p, ok := k.login.block.Params["region"]; ok {
		origin = p.Origin
	} else if k.login.known != "" {
		origin = "the key's ARN"
	}
	text = fmt.Sprintf("%s (%s)", region, origin)
	if p, ok := k.login.block.Params["endpoint"]; ok {
		text += fmt.Sprintf("; KMS is at %s (%s)", p.Value, p.Origin)
	} else if url := k.login.kms(); url != "" {
		text += fmt.Sprintf("; KMS is at %s (the profile)", url)
	}
	d.ok("region", "%s", text)
	return c
}

// diagnoseKey tries each permission, even if others failed.
func (k *awsKMS) diagnoseKey(ctx context.Context, d *diagnosis, c *kmsClient) {
	var missing []string
	var said string // AWS's words about who lacks which permission
	var denied int  // index of the last denied step
	try := func(permission string, do func(context.Context) (string, error)) {
		if n := len(d.steps) - 1; d.steps[n].Class == string(Unreachable) {
			return // the others would fail, too
		}
		ctx, cancel := stepContext(ctx)
		defer cancel()
		text, err := do(ctx)
		if err == nil {
			d.ok(permission, "%s", text)
			return
		}
		d.fail(permission, err)
		if e, ok := errors.AsType[awserr.Error](err); ok && e.Code() == "AccessDeniedException" {
			missing, said, denied = append(missing, permission), e.Message(), len(d.steps)-1
		}
	}

	try("kms:DescribeKey", func(ctx context.Context) (text string, err error) {
		if c.arn, err = c.describe(ctx, k.key); err != nil {
			return "", err
		}
		if !named(k.key, c.arn) {
			return "", mismatch("KMS says that %s is the key %s", k.key, c.arn)
		}
		return k.key + " is " + c.arn + ", and enabled", nil
	})
	if n := len(d.steps) - 1; d.steps[n].OK && k.materialEnds() != "" {
		d.steps[n].Warning, d.steps[n].Next = true, "import the key material again (aws kms import-key-material) before that day"
		d.steps[n].Text += "; " + k.materialEnds()
	}
	key := make([]byte, keySize)
	rand.Read(key) // never fails
	var wrapped []byte
	var by string
	try("kms:Encrypt", func(ctx context.Context) (text string, err error) {
		if wrapped, by, err = c.encrypt(ctx, key); err != nil {
			return "", err
		}
		if c.arn != "" && !sameKey(by, c.arn) {
			return "", mismatch("KMS encrypted with the key %s, not with %s: check the endpoint", by, c.arn)
		}
		return "a data key was encrypted by " + by, nil
	})
	try("kms:Decrypt", func(ctx context.Context) (string, error) {
		if wrapped == nil {
			// No key made this blob: AWS says so only to callers that may decrypt.
			_, _, err := c.decrypt(ctx, k.key, key)
			if e, ok := errors.AsType[awserr.Error](err); ok && classify(e) == BlobMismatch {
				return "allowed; there was nothing to decrypt", nil
			}
			return "", err
		}
		plain, id, err := c.decrypt(ctx, k.key, wrapped)
		switch {
		case err != nil:
			return "", err
		case !sameKey(id, by) || string(plain) != string(key):
			return "", mismatch("what the key %s encrypted was decrypted to something else by %s: check the endpoint", by, id)
		}
		return "it was decrypted again", nil
	})
	if len(missing) > 0 {
		d.steps[denied].Paste = statements(missing, first(c.arn, by), said)
	}
}

var (
	userARN = regexp.MustCompile(`arn:[a-z-]+:(?:iam|sts)::[0-9]+:[^\s"',]+`)
	keyARN  = regexp.MustCompile(`arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]+:key/[A-Za-z0-9-]+`)
)

// statements returns policies that allow the missing actions, for the caller or for the key. said is AWS's sentence about
// who was refused what.
func statements(actions []string, key, said string) []Paste {
	key = first(key, keyARN.FindString(said), "arn:aws:kms:REGION:ACCOUNT:key/ID")
	caller := userARN.FindString(said)
	if a, err := awsarn.Parse(caller); err == nil && a.Service == "sts" {
		if role := strings.Split(a.Resource, "/"); role[0] == "assumed-role" && len(role) > 1 {
			a.Service, a.Resource = "iam", "role/"+role[1]
			caller = a.String()
		}
	}
	who := first(caller, "arn:aws:iam::ACCOUNT:role/NAME")
	type principal struct{ AWS string }
	type statement struct {
		Sid       string
		Effect    string
		Principal *principal `json:",omitempty"`
		Action    []string
		Resource  string
	}
	write := func(s statement) string {
		b, _ := json.MarshalIndent(s, "", "  ") // cannot fail: only strings
		return string(b)
	}
	return []Paste{
		{"the IAM policy of " + who, write(statement{"Sealkeep", "Allow", nil, actions, key})},
		{"or the key policy of " + key + "; both, if they are of different accounts", write(statement{"Sealkeep", "Allow", &principal{who}, actions, "*"})},
	}
}
