package seal

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/sealkeep/sealkeep/config"
)

// awsLogin finds the region and the credentials of one awskms seal. What the seal block says about credentials comes
// first; config adds no credentials of the environment to it, so that an access key is never paired with another's
// secret. If the block says nothing, the SDK's own chain decides: environment, web identity, profile (assume-role, SSO,
// credential_process), container (ECS, EKS Pod Identity), instance metadata.
type awsLogin struct {
	block   config.Seal
	known   string        // the region, when the configuration or the key's ARN says it
	timeout time.Duration // of each request of the SDK, so that a stalled one cannot block the credentials' cache for ever

	mu       sync.Mutex
	provider aws.CredentialsProvider // caches; nil until first needed and after credentials were refused
	base     aws.CredentialsProvider // the credentials that assume a role; without a role the provider
	region   string
	endpoint string // for KMS, from the configuration or else the profile; "" is AWS's own
	sso      string // the profile whose SSO login gives the credentials; "" if none does
}

func newAWSLogin(c config.Seal, keyRegion string) (*awsLogin, error) {
	l := &awsLogin{block: c, timeout: 10 * time.Second, endpoint: c.Get("endpoint")}
	if (c.Get("access_key") == "") != (c.Get("secret_key") == "") {
		return nil, errors.New("access_key and secret_key belong together: set both, or neither to use the AWS environment, profile or role")
	}
	if c.Get("web_identity_token_file") != "" && c.Get("role_arn") == "" && os.Getenv("AWS_ROLE_ARN") == "" {
		return nil, errors.New("web_identity_token_file needs role_arn, the role that the token is for")
	}
	l.known = first(c.Get("region"), keyRegion)
	if keyRegion != "" && l.known != keyRegion {
		return nil, fmt.Errorf("region is %q, but the key's ARN says %q: remove region or correct it", l.known, keyRegion)
	}
	return l, nil
}

// get returns credentials that are valid now, and the region.
func (l *awsLogin) get(ctx context.Context) (aws.Credentials, string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.provider == nil {
		if err := l.load(ctx); err != nil {
			return aws.Credentials{}, "", err
		}
	}
	c, err := l.provider.Retrieve(ctx)
	if err != nil {
		failed := l.loginError(err)
		if !is[*aws.RequestCanceledError](err) { // otherwise the cache continues the request, for the next attempt
			l.provider = nil
		}
		return c, "", failed
	}
	return c, l.region, nil
}

// loginError gives an error of the provider its class.
func (l *awsLogin) loginError(err error) error {
	// The SDK does not always keep the type of an error that happens before any request.
	asked := is[*smithyhttp.RequestSendError](err) || is[statusError](err) || is[*aws.RequestCanceledError](err)
	e, said := errors.AsType[smithy.APIError](err)
	switch {
	case aws.IsCredentialsProvider(l.provider, (*ec2rolecreds.Provider)(nil)):
		return &Error{Kind: CredentialsMissing, Err: err, Text: "no AWS credentials were found: not in the seal block, the environment, " +
			"a profile or a container, and the instance metadata service gave none: set one of them"}
	case said && signature(e.ErrorCode()):
		// The text of such errors may repeat the whole request, including a session token.
		return &Error{Kind: classify(err), Err: errors.New("STS says " + e.ErrorCode())}
	case l.sso != "" && (!asked || classify(err) == CredentialsExpired):
		return &Error{Kind: CredentialsExpired, Err: err, Text: "the AWS SSO session has ended or never began, or the file of its token " +
			"cannot be read and written: log in with aws sso login --profile " + l.sso}
	case !asked && classify(err) == Unreachable:
		return &Error{Kind: CredentialsMissing, Err: err}
	}
	return fmt.Errorf("getting AWS credentials: %w", err)
}

// keys returns the access key from which everything else is derived, if one is configured somewhere. It makes no
// request.
func (l *awsLogin) keys(ctx context.Context) (aws.Credentials, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !aws.IsCredentialsProvider(l.base, credentials.StaticCredentialsProvider{}) {
		return aws.Credentials{}, false
	}
	c, err := l.base.Retrieve(ctx)
	return c, err == nil
}

// kms returns the endpoint that was found with the credentials.
func (l *awsLogin) kms() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.endpoint
}

// fixed says where temporary credentials are kept that are never renewed, or returns "" if there are none. Those of a
// profile are read again when AWS refuses them.
func (l *awsLogin) fixed(ctx context.Context) string {
	if c, ok := l.keys(ctx); ok && c.SessionToken != "" && (c.Source == credentials.StaticCredentialsName || c.Source == awsconfig.CredentialsSourceName) {
		return sourceOf(c)
	}
	return ""
}

// sourceOf says where credentials came from, in an operator's words.
func sourceOf(c aws.Credentials) string {
	source, where, _ := strings.Cut(c.Source, ": ")
	words := map[string]string{
		credentials.StaticCredentialsName: "the seal block",
		awsconfig.CredentialsSourceName:   "the environment (AWS_ACCESS_KEY_ID)",
		"SharedConfigCredentials":         "the profile",
		stscreds.WebIdentityProviderName:  "STS, for a web identity token",
		stscreds.ProviderName:             "STS, for a role",
		processcreds.ProviderName:         "a credential_process",
		ssocreds.ProviderName:             "AWS SSO",
		endpointcreds.ProviderName:        "the container's service (ECS, EKS Pod Identity)",
		ec2rolecreds.ProviderName:         "the instance's role (IMDS)",
	}
	source = first(words[source], source)
	if where != "" {
		source += " in " + where
	}
	return source
}

// forget drops cached credentials after they were refused: a profile may have new ones by now.
func (l *awsLogin) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.provider = nil
}

// load sets provider, region and endpoint.
func (l *awsLogin) load(ctx context.Context) error {
	p := l.block.Get
	role, token := p("role_arn"), p("web_identity_token_file")
	var base aws.CredentialsProvider
	switch {
	case p("access_key") != "":
		base = credentials.NewStaticCredentialsProvider(p("access_key"), p("secret_key"), p("session_token"))
		token = ""
		if l.known != "" && role == "" { // nothing else is needed
			l.provider, l.base, l.region = base, base, l.known
			return nil
		}
	case token == "" && role != "" && p("shared_creds_filename") == "" && p("shared_creds_profile") == "":
		token = os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE")
	}
	if token != "" {
		base, role = aws.AnonymousCredentials{}, first(role, os.Getenv("AWS_ROLE_ARN")) // the token is enough
	}

	var instance metadata
	client := awshttp.NewBuildableClient().WithTimeout(l.timeout)
	options := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithLogger(logging.Nop{}), // it would write to standard error; failures are returned as errors
		awsconfig.WithEC2RoleCredentialOptions(func(o *ec2rolecreds.Options) { o.Client = &instance }),
		awsconfig.WithHTTPClient(client),
		awsconfig.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }), // otherwise one without a timeout
		awsconfig.WithCredentialsCacheOptions(early),
		awsconfig.WithRetryer(func() aws.Retryer { // as for KMS; the default would use up the attempt's time before it says why
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 2, 100*time.Millisecond })
		}),
	}
	if base != nil {
		options = append(options, awsconfig.WithCredentialsProvider(base))
	}
	if l.known != "" {
		options = append(options, awsconfig.WithRegion(l.known))
	}
	if f := p("shared_creds_filename"); f != "" {
		options = append(options, awsconfig.WithSharedCredentialsFiles([]string{f}))
	}
	if p("shared_creds_filename") != "" || p("shared_creds_profile") != "" {
		// A profile named here wins over keys in the environment.
		options = append(options, awsconfig.WithSharedConfigProfile(first(p("shared_creds_profile"), os.Getenv("AWS_PROFILE"), "default")))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	switch {
	case err != nil && !bundleFits():
		return &Error{Kind: TLS, Err: err, Text: "the file of AWS_CA_BUNDLE cannot be used: it must have certificates in PEM"}
	case err != nil:
		return &Error{Kind: CredentialsMissing, Err: err, Text: "the AWS profile or environment cannot be used: correct it, or the seal block"}
	}
	instance.Client = imds.NewFromConfig(cfg, func(o *imds.Options) { o.EnableFallback = aws.FalseTernary }) // no fallback to IMDSv1
	if cfg.Region == "" {
		if cfg.Region, err = instanceRegion(ctx, instance); err != nil {
			return err
		}
	}

	l.provider, l.base, l.region = cfg.Credentials, cfg.Credentials, cfg.Region
	l.endpoint = first(p("endpoint"), profileEndpoint(ctx, cfg))
	l.sso = ssoProfile(cfg)
	session := first(p("role_session_name"), os.Getenv("AWS_ROLE_SESSION_NAME"), "sealkeep")
	switch {
	case token != "":
		l.provider = aws.NewCredentialsCache(stscreds.NewWebIdentityRoleProvider(sts.NewFromConfig(cfg),
			role, stscreds.IdentityTokenFile(token),
			func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = session }), early)
	case role != "":
		l.provider = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), role,
			func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = session }), early)
	}
	return nil
}

// profileEndpoint returns the URL that the profile has for KMS, found as the SDK's clients find theirs. config handles
// the variables that take precedence.
func profileEndpoint(ctx context.Context, cfg aws.Config) string {
	if off, _, _ := awsconfig.GetIgnoreConfiguredEndpoints(ctx, cfg.ConfigSources); off {
		return ""
	}
	profile := profileOf(cfg)
	url, _, _ := profile.GetServiceBaseEndpoint(ctx, "KMS")
	return first(url, profile.BaseEndpoint)
}

// ssoProfile returns the name of the profile whose credentials come from SSO, directly or to assume a role. It returns
// "" if they come from elsewhere.
func ssoProfile(cfg aws.Config) string {
	provider, ok := cfg.Credentials.(aws.CredentialProviderSource)
	if !ok || !slices.ContainsFunc(provider.ProviderSources(), func(s aws.CredentialSource) bool {
		return s == aws.CredentialSourceSSO || s == aws.CredentialSourceSSOLegacy
	}) {
		return ""
	}
	profile := profileOf(cfg)
	for profile.Source != nil {
		profile = *profile.Source
	}
	return profile.Profile
}

// profileOf returns the profile that the SDK read, or an empty one if there is none.
func profileOf(cfg aws.Config) awsconfig.SharedConfig {
	for _, source := range cfg.ConfigSources {
		if profile, ok := source.(awsconfig.SharedConfig); ok {
			return profile
		}
	}
	return awsconfig.SharedConfig{}
}

// bundleFits reports whether AWS_CA_BUNDLE can be used. The SDK's error about it has no type.
func bundleFits() bool {
	name := os.Getenv("AWS_CA_BUNDLE")
	if name == "" {
		return true
	}
	pem, err := os.ReadFile(name)
	return err == nil && x509.NewCertPool().AppendCertsFromPEM(pem)
}

// early renews temporary credentials early enough that they outlive the attempt that uses them.
func early(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = 2 * maxAttempt }

// metadata is the metadata service of an instance. The SDK needs it before there is a configuration from which to make
// its client.
type metadata struct{ *imds.Client }

// instanceRegion asks the instance metadata service, unless AWS_EC2_METADATA_DISABLED forbids it.
func instanceRegion(ctx context.Context, m metadata) (string, error) {
	out, err := m.GetRegion(ctx, &imds.GetRegionInput{})
	if err != nil {
		return "", &Error{Kind: CredentialsMissing, Err: err, Text: "the AWS region of the key is not known: set region in the seal block, " +
			"AWS_REGION or the profile's region, or give the key's ARN"}
	}
	return out.Region, nil
}

func first(s ...string) string {
	for _, x := range s {
		if x != "" {
			return x
		}
	}
	return ""
}
