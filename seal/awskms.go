package seal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	aws2 "github.com/aws/aws-sdk-go-v2/aws"
	awsarn "github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/awserr"
	awsclient "github.com/aws/aws-sdk-go/aws/client"
	"github.com/aws/aws-sdk-go/aws/request"
	"github.com/aws/aws-sdk-go/service/kms"
	"github.com/aws/aws-sdk-go/service/kms/kmsiface"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/wrappers/awskms/v2"

	"github.com/sealkeep/sealkeep/config"
)

// awsKMS wraps data keys with a symmetric key of AWS KMS. The library's wrapper makes the client, from explicit
// settings and without any request. The requests are made here, since the wrapper's own ignore the context, do not
// say which key must decrypt and do not check which key did.
type awsKMS struct {
	key   string // as configured: ID, ARN, alias/name or the alias's ARN
	login *awsLogin

	mu       sync.Mutex
	endpoint string    // from the configuration, or found by the last attempt; "" is AWS's own
	creds    []string  // the secrets of the block and of the last attempt
	ending   time.Time // when the key's material expires, as of the last attempt; zero: never
	fixed    string    // where temporary credentials are kept that are never renewed; "" if there are none
}

func newAWSKMS(c config.Seal) (service, error) {
	k := &awsKMS{key: c.Get("kms_key_id"), endpoint: c.Get("endpoint"), creds: []string{c.Get("secret_key"), c.Get("session_token")}}
	if k.key == "" {
		return nil, errors.New("kms_key_id is missing: give the key's ID, ARN or alias/name")
	}
	var region string
	if strings.HasPrefix(k.key, "arn:") {
		a, err := awsarn.Parse(k.key)
		if err != nil || a.Service != "kms" || a.Region == "" || a.AccountID == "" ||
			!strings.HasPrefix(a.Resource, "key/") && !strings.HasPrefix(a.Resource, "alias/") {
			return nil, fmt.Errorf("kms_key_id %q is no ARN of a KMS key: it looks like arn:aws:kms:REGION:ACCOUNT:key/ID or ...:alias/NAME", k.key)
		}
		region = a.Region
	}
	var err error
	k.login, err = newAWSLogin(c, region)
	if err != nil {
		return nil, err
	}
	return k, nil
}

func (k *awsKMS) close() {}

func (k *awsKMS) secrets() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.creds
}

// connect logs in and describes the key.
func (k *awsKMS) connect(ctx context.Context) (client, error) {
	c, _, _, err := k.logIn(ctx)
	if err != nil {
		return nil, err
	}
	if c.arn, err = c.describe(ctx, k.key); err != nil {
		return nil, err
	}
	if !named(k.key, c.arn) {
		return nil, mismatch("KMS says that %s is the key %s", k.key, c.arn)
	}
	return c, nil
}

// logIn makes a client that does not yet know the key's ARN.
func (k *awsKMS) logIn(ctx context.Context) (c *kmsClient, creds aws2.Credentials, region string, err error) {
	creds, region, err = k.login.get(ctx)
	if err != nil {
		return nil, creds, "", err
	}
	fixed, endpoint := k.login.fixed(ctx), k.login.kms()
	k.mu.Lock()
	k.creds = append(slices.Clone(k.creds[:2]), creds.SecretAccessKey, creds.SessionToken)
	k.fixed, k.endpoint = fixed, endpoint
	k.mu.Unlock()
	settings := map[string]string{
		"key_not_required":  "true", // otherwise SetConfig asks KMS, without a deadline
		"disallow_env_vars": "true",
		"region":            region,
		"endpoint":          endpoint,
		"access_key":        creds.AccessKeyID,
		"secret_key":        creds.SecretAccessKey,
		"session_token":     creds.SessionToken,
	}
	if os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") != "" {
		// With that variable and AWS_ROLE_ARN the library calls STS, without a deadline, for credentials that it then
		// does not use. An empty token makes it fail before the request.
		settings["web_identity_token_file"] = os.DevNull
	}
	w := awskms.NewWrapper()
	if _, err := w.SetConfig(ctx, wrapping.WithConfigMap(settings), wrapping.WithKeyId(k.key)); err != nil {
		return nil, creds, "", fmt.Errorf("making the KMS client: %w", err)
	}
	c = &kmsClient{k: k, api: w.Client(), caller: "the caller (access key " + creds.AccessKeyID + ")"}
	if role := k.login.block.Get("role_arn"); role != "" {
		c.caller = role
	}
	return c, creds, region, nil
}

// materialEnds returns a warning if the key's imported material, as last described, expires soon.
func (k *awsKMS) materialEnds() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending.IsZero() || time.Until(k.ending) > ahead {
		return ""
	}
	return fmt.Sprintf("the imported material of the key %s expires %s, and then this seal opens nothing more", k.key, inDays(k.ending))
}

func (k *awsKMS) warning() string {
	var all []string
	if w := k.materialEnds(); w != "" {
		all = append(all, w+": import it again (aws kms import-key-material)")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fixed != "" {
		all = append(all, "the AWS credentials in "+k.fixed+" are temporary, and nobody renews them: when they end this seal opens nothing more. Use a role, a profile or keys that last")
	}
	return strings.Join(all, ". Also, ")
}

func (k *awsKMS) where() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.endpoint != "" {
		return "AWS KMS at " + k.endpoint
	}
	return "AWS KMS"
}

func (k *awsKMS) explain(c Class) string {
	switch c {
	case DNS:
		return "the host name of " + k.where() + " does not resolve: check the region, the endpoint and this machine's resolver"
	case TLS:
		return "there is no TLS connection to " + k.where() + ": check its certificate, AWS_CA_BUNDLE and proxies between"
	case CredentialsMissing:
		return "the AWS credentials cannot be read: check the seal block, the environment and the profile"
	case CredentialsExpired:
		return "the AWS credentials have expired: renew them (for a profile with SSO: aws sso login --profile NAME)"
	case AuthDenied:
		return "AWS refuses the credentials: check the access key, the secret key and the role"
	case ClockSkew:
		return "AWS refuses signatures with the time of this machine: set its clock"
	case KeyNotFound:
		return "there is no key " + k.key + " here: check kms_key_id, the region and the account"
	case KeyDisabled:
		return "the key " + k.key + " cannot be used in its state: enable it"
	case Throttled:
		return k.where() + " has had too many requests: it is tried again; if this lasts, raise the account's quota"
	case BlobMismatch:
		return "the blob was not made by the key " + k.key + ", or was altered: check kms_key_id"
	}
	return k.where() + " does not answer as it should: check the network, the endpoint and the service's health"
}

// kmsClient is one login at KMS.
type kmsClient struct {
	k      *awsKMS
	api    kmsiface.KMSAPI
	arn    string // of the key that k.key now names
	caller string
}

func (c *kmsClient) keyID(context.Context) (string, error) { return c.arn, nil }

func (c *kmsClient) wrap(ctx context.Context, key []byte) ([]byte, string, error) {
	wrapped, id, err := c.encrypt(ctx, key)
	if err != nil {
		return nil, "", err
	}
	if !sameKey(id, c.arn) {
		return nil, "", mismatch("KMS encrypted with the key %s, not with %s: check the endpoint; if the alias was just moved, try again", id, c.arn)
	}
	return wrapped, id, nil
}

// encrypt encrypts with the configured key, and returns which key KMS used.
func (c *kmsClient) encrypt(ctx context.Context, key []byte) ([]byte, string, error) {
	var out *kms.EncryptOutput
	err := c.call("kms:Encrypt", c.k.key, func(o request.Option) (err error) {
		out, err = c.api.EncryptWithContext(ctx, &kms.EncryptInput{KeyId: &c.k.key, Plaintext: key}, o)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return out.CiphertextBlob, aws.StringValue(out.KeyId), nil
}

// decrypt decrypts with the key use, and returns which key KMS used.
func (c *kmsClient) decrypt(ctx context.Context, use string, wrapped []byte) ([]byte, string, error) {
	var out *kms.DecryptOutput
	err := c.call("kms:Decrypt", use, func(o request.Option) (err error) {
		out, err = c.api.DecryptWithContext(ctx, &kms.DecryptInput{KeyId: &use, CiphertextBlob: wrapped}, o)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return out.Plaintext, aws.StringValue(out.KeyId), nil
}

// unwrap decrypts with the configured key only. If that is an alias, it may have moved since: then unwrap decrypts with
// the key that the blob names, if it has the same account and region as the alias.
func (c *kmsClient) unwrap(ctx context.Context, wrapped []byte, keyID string) ([]byte, error) {
	use, want := c.k.key, c.arn
	switch {
	case sameKey(keyID, c.arn):
	case !isAlias(use):
		return nil, mismatch("the blob names the key %q, and kms_key_id is %s: another key made it", keyID, c.arn)
	case !samePlace(keyID, c.arn):
		return nil, mismatch("the blob names the key %q, which is not in the account and region of %s (%s)", keyID, c.k.key, c.arn)
	default:
		use, want = keyID, keyID
	}
	key, by, err := c.decrypt(ctx, use, wrapped)
	if e, ok := errors.AsType[awserr.Error](err); ok && e.Code() == kms.ErrCodeInvalidStateException {
		if _, err := c.describe(ctx, use); err != nil { // its error says what state the key is in
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	if !sameKey(by, want) {
		return nil, mismatch("KMS decrypted with the key %s, not with %s: the blob is not this seal's", by, want)
	}
	return key, nil
}

// describe returns the ARN of a key that can encrypt and decrypt now.
func (c *kmsClient) describe(ctx context.Context, key string) (string, error) {
	var out *kms.DescribeKeyOutput
	err := c.call("kms:DescribeKey", key, func(o request.Option) (err error) {
		out, err = c.api.DescribeKeyWithContext(ctx, &kms.DescribeKeyInput{KeyId: &key}, o)
		return err
	})
	if err != nil {
		return "", err
	}
	m := out.KeyMetadata
	if m == nil {
		return "", &Error{Kind: Unreachable, Text: c.k.where() + " gave no answer about the key: check the endpoint"}
	}
	arn := aws.StringValue(m.Arn)
	fail := func(kind Class, format string, a ...any) (string, error) {
		return "", &Error{Kind: kind, Text: fmt.Sprintf("the key "+arn+" "+format, a...)}
	}
	switch aws.StringValue(m.KeyState) {
	case kms.KeyStateDisabled:
		return fail(KeyDisabled, "is disabled: enable it (aws kms enable-key)")
	case kms.KeyStatePendingImport:
		return fail(KeyDisabled, "has no key material: import it (aws kms import-key-material)")
	case kms.KeyStatePendingDeletion, kms.KeyStatePendingReplicaDeletion:
		day := "soon"
		if m.DeletionDate != nil {
			day = inDays(*m.DeletionDate)
		}
		return fail(KeyPendingDeletion, "will be deleted %s, and what it wrapped is lost then: cancel that (aws kms cancel-key-deletion), then enable it", day)
	case kms.KeyStateUnavailable:
		return fail(Unreachable, "is in a key store that is not connected: connect the custom key store")
	case kms.KeyStateCreating:
		return fail(Unreachable, "is still being made: wait")
	}
	if u := aws.StringValue(m.KeyUsage); u != "" && u != kms.KeyUsageTypeEncryptDecrypt {
		return fail(KeyNotFound, "is for %s: use a symmetric key for encryption", u)
	}
	if s := aws.StringValue(m.KeySpec); s != "" && s != kms.KeySpecSymmetricDefault {
		return fail(KeyNotFound, "is of kind %s: use a symmetric key (SYMMETRIC_DEFAULT)", s)
	}
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	c.k.ending = aws.TimeValue(m.ValidTo)
	return arn, nil
}

// call makes one request, which the SDK repeats at most once. Its error says which permission is missing, or that the
// clock is wrong.
func (c *kmsClient) call(permission, key string, do func(request.Option) error) error {
	var req *request.Request
	err := do(func(r *request.Request) {
		req = r
		r.Retryer = awsclient.DefaultRetryer{NumMaxRetries: 1}
	})
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[awserr.Error](err)
	if !ok {
		return fmt.Errorf("%s: %w", permission, err)
	}
	switch class := classify(err); {
	case signature(e.Code()):
		// The text of such errors may repeat the whole request, including the session token.
		c.k.login.forget()
		err = errors.New(e.Code())
		if req.HTTPResponse != nil && skewed(req.HTTPResponse.Header) {
			return &Error{Kind: ClockSkew, Err: err, Text: fmt.Sprintf("AWS refuses the signature: its clock says %s, and this machine's is %s off: set it",
				req.HTTPResponse.Header.Get("Date"), skew(req.HTTPResponse.Header).Abs().Round(time.Minute))}
		}
		return &Error{Kind: AuthDenied, Err: err}
	case e.Code() == "AccessDeniedException":
		return &Error{Kind: AuthDenied, Err: err, Text: fmt.Sprintf("not allowed: %s on %s: add it to the key policy or the IAM policy of %s", permission, key, c.caller)}
	case class == AuthDenied || class == CredentialsExpired || class == CredentialsMissing:
		c.k.login.forget()
	}
	return fmt.Errorf("%s: %w", permission, err)
}

func isAlias(key string) bool {
	return strings.HasPrefix(key, "alias/") || strings.HasPrefix(key, "arn:") && strings.Contains(key, ":alias/")
}

// named reports whether the configured key may name the key with this ARN.
func named(key, arn string) bool {
	switch {
	case isAlias(key):
		return !strings.HasPrefix(key, "arn:") || samePlace(key, arn)
	case strings.HasPrefix(key, "arn:"):
		return sameKey(key, arn)
	}
	return strings.HasSuffix(arn, ":key/"+key)
}

// sameKey reports whether two ARNs name the same key. Replicas of a multi-region key count as the same.
func sameKey(a, b string) bool {
	x, err := awsarn.Parse(a)
	y, err2 := awsarn.Parse(b)
	if err != nil || err2 != nil {
		return false
	}
	if x.Service == "kms" && strings.HasPrefix(x.Resource, "key/mrk-") {
		x.Region, y.Region = "", ""
	}
	return x == y && x.Service == "kms" && strings.HasPrefix(x.Resource, "key/")
}

// samePlace reports whether two ARNs are of KMS and of the same partition, account and region.
func samePlace(a, b string) bool {
	x, err := awsarn.Parse(a)
	y, err2 := awsarn.Parse(b)
	x.Resource, y.Resource = "", ""
	return err == nil && err2 == nil && x == y && x.Service == "kms"
}
