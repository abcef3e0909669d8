package seal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"

	v2config "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go/aws/awserr"
	"github.com/aws/aws-sdk-go/aws/request"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/kms"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/hashicorp/vault/api"
)

// A Class says what kind of trouble an error is.
type Class string

const (
	Unreachable        Class = "unreachable"          // no answer, no answer in time, or a failure on the other side
	DNS                Class = "dns"                  // the host's name does not resolve
	TLS                Class = "tls"                  // the connection's certificate or handshake was refused
	CredentialsMissing Class = "credentials_missing"  // nothing to log in with, or no region
	CredentialsExpired Class = "credentials_expired"  // temporary credentials have ended
	AuthDenied         Class = "auth_denied"          // the key service refuses the caller, known or not
	ClockSkew          Class = "clock_skew"           // this machine's clock is wrong
	KeyNotFound        Class = "key_not_found"        // no such key, or none that can encrypt
	KeyDisabled        Class = "key_disabled"         // the key exists and must be enabled, or given its key material
	KeyPendingDeletion Class = "key_pending_deletion" // the key will be deleted on a certain day
	Throttled          Class = "throttled"            // too many requests
	BlobMismatch       Class = "blob_mismatch"        // the blob was not made by this key for this place, or is damaged
)

var errHung = errors.New("it was left behind when its time was over")

// An Error describes a failure of a key service. Its text names the seal, says what happened and what to do, and
// shows no secret.
type Error struct {
	Kind Class
	Seal string // name
	Op   string // wrapping or opening
	Text string // what happened and what to do
	Err  error  // what the key service or the network said; may be nil
}

// Class is e.Kind as a string.
func (e *Error) Class() string { return string(e.Kind) }

func (e *Error) Error() string {
	s := fmt.Sprintf("seal %q: %s: %s", e.Seal, e.Op, e.Text)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// mismatch makes an error of class BlobMismatch.
func mismatch(format string, a ...any) error {
	return &Error{Kind: BlobMismatch, Text: fmt.Sprintf(format, a...)}
}

// redacted is an error whose text is one line of bounded length without secrets. errors.As still reaches the original.
type redacted struct {
	text string
	err  error
}

func (r *redacted) Error() string { return r.text }
func (r *redacted) Unwrap() error { return r.err }

// minSecret is the minimum length of a secret. Anything shorter protects nothing,
// and removing it from a text would leave the text unreadable.
const minSecret = 8

func redact(err error, secrets []string) error {
	text := err.Error()
	for _, s := range secrets {
		if len(s) >= minSecret {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	const most = 600
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return &redacted{text, err}
}

// codes maps the error codes of AWS's services, mostly KMS and STS. Other codes are classified by HTTP status.
var codes = map[string]Class{
	kms.ErrCodeNotFoundException:          KeyNotFound,
	kms.ErrCodeInvalidArnException:        KeyNotFound,
	kms.ErrCodeInvalidKeyUsageException:   KeyNotFound,
	"ValidationException":                 KeyNotFound, // an impossible key ID
	kms.ErrCodeDisabledException:          KeyDisabled,
	kms.ErrCodeInvalidStateException:      KeyDisabled,
	kms.ErrCodeKeyUnavailableException:    Unreachable,
	kms.ErrCodeInternalException:          Unreachable,
	kms.ErrCodeDependencyTimeoutException: Unreachable,
	kms.ErrCodeInvalidCiphertextException: BlobMismatch,
	kms.ErrCodeIncorrectKeyException:      BlobMismatch,
	kms.ErrCodeLimitExceededException:     Throttled,
	"ThrottlingException":                 Throttled,
	"Throttling":                          Throttled,
	"ThrottledException":                  Throttled,
	"RequestLimitExceeded":                Throttled,
	"RequestThrottled":                    Throttled,
	"TooManyRequestsException":            Throttled,
	"SlowDown":                            Throttled,
	"AccessDeniedException":               AuthDenied,
	"AccessDenied":                        AuthDenied,
	"UnrecognizedClientException":         AuthDenied,
	"InvalidClientTokenId":                AuthDenied,
	"InvalidAccessKeyId":                  AuthDenied,
	"InvalidIdentityToken":                AuthDenied,
	"InvalidSignatureException":           AuthDenied, // or the clock: see skewed
	"SignatureDoesNotMatch":               AuthDenied, // likewise
	"IncompleteSignature":                 AuthDenied,
	"OptInRequired":                       AuthDenied,
	"ForbiddenException":                  AuthDenied,
	"RegionDisabledException":             AuthDenied,
	"ExpiredToken":                        CredentialsExpired,
	"ExpiredTokenException":               CredentialsExpired,
	"UnauthorizedException":               CredentialsExpired, // of SSO
	"InvalidGrantException":               CredentialsExpired, // likewise: its refresh token has expired
	"InvalidClientException":              CredentialsExpired, // likewise: the client is no longer registered
	"UnauthorizedClientException":         CredentialsExpired, // likewise
	"ResourceNotFoundException":           AuthDenied,         // likewise: no such account or role
	"MissingAuthenticationToken":          CredentialsMissing,
	"MissingAuthenticationTokenException": CredentialsMissing,
	"NoCredentialProviders":               CredentialsMissing,
	"RequestExpired":                      ClockSkew,
	"RequestTimeTooSkewed":                ClockSkew,
	session.ErrCodeLoadCustomCABundle:     TLS,
	session.ErrCodeLoadClientTLSCert:      TLS,
	session.ErrCodeSharedConfig:           CredentialsMissing,
	"SharedConfigLoadError":               CredentialsMissing,
	"SharedConfigProfileNotExistsError":   CredentialsMissing,
	"SharedConfigAssumeRoleError":         CredentialsMissing,
	request.CanceledErrorCode:             Unreachable,
	request.ErrCodeSerialization:          Unreachable,
	request.ErrCodeResponseTimeout:        Unreachable,
	"ServiceUnavailable":                  Unreachable,
	"ServiceUnavailableException":         Unreachable,
	"IDPCommunicationError":               Unreachable,
}

// classify finds the class of an error by the types in its chain. An unknown error is Unreachable, so that the attempt
// is repeated.
func classify(err error) Class {
	if own, ok := errors.AsType[*Error](err); ok {
		return own.Kind
	}
	if c := network(err); c != "" {
		return c
	}
	if e, ok := errors.AsType[awserr.Error](err); ok { // aws-sdk-go v1: KMS
		if c, ok := codes[e.Code()]; ok && e.Code() != request.CanceledErrorCode && e.Code() != request.ErrCodeSerialization {
			return c
		}
		if f, ok := e.(awserr.RequestFailure); ok && f.StatusCode() != 0 {
			return status(f.StatusCode())
		}
		if e.OrigErr() != nil { // Unwrap does not return it
			return classify(e.OrigErr())
		}
		return Unreachable
	}
	// aws-sdk-go-v2: credentials
	if is[*ssocreds.InvalidTokenError](err) {
		return CredentialsExpired
	}
	if is[*processcreds.ProviderError](err) || is[v2config.SharedConfigProfileNotExistError](err) {
		return CredentialsMissing
	}
	answer, answered := errors.AsType[*smithyhttp.ResponseError](err)
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		if c := codes[e.ErrorCode()]; c != "" {
			if answered && answer.Response != nil && signature(e.ErrorCode()) && skewed(answer.Response.Header) {
				return ClockSkew
			}
			return c
		}
	}
	if e, ok := errors.AsType[statusError](err); ok && e.HTTPStatusCode() != 0 {
		return status(e.HTTPStatusCode())
	}
	if e, ok := errors.AsType[*api.ResponseError](err); ok {
		return status(e.StatusCode)
	}
	if is[*fs.PathError](err) { // a token, certificate or profile file
		return CredentialsMissing
	}
	return Unreachable
}

// A statusError is an error answer in aws-sdk-go-v2, from AWS or from a container's service, whose errors have a type of
// their own.
type statusError interface {
	error
	HTTPStatusCode() int
}

// signature reports whether AWS returns a code both for a wrong secret key and for a wrong clock. The text would tell
// them apart, but so does the Date of the answer.
func signature(code string) bool {
	return code == "InvalidSignatureException" || code == "SignatureDoesNotMatch"
}

// skewed reports whether the server's clock is so far from ours that AWS refuses signatures (five minutes, less one for
// the transmission).
func skewed(h http.Header) bool { return skew(h).Abs() > 4*time.Minute }

// skew returns how far our clock is ahead of the server's, or 0 if that is not known.
func skew(h http.Header) time.Duration {
	t, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return time.Since(t)
}

// status classifies an HTTP answer whose error code is unknown.
func status(code int) Class {
	switch {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return AuthDenied
	case code == http.StatusNotFound:
		return KeyNotFound
	case code == http.StatusTooManyRequests:
		return Throttled
	}
	return Unreachable
}

// network classifies errors of the connection. Remote TLS alerts have no exported type, but a net.OpError says which
// side sent them.
func network(err error) Class {
	for e := err; e != nil; {
		if _, ok := errors.AsType[*net.DNSError](e); ok {
			return DNS
		}
		if isTLS(e) {
			return TLS
		}
		a, ok := errors.AsType[awserr.Error](e)
		if !ok {
			break
		}
		e = a.OrigErr()
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return Unreachable
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return Unreachable
	}
	return ""
}

func isTLS(err error) bool {
	if e, ok := errors.AsType[*net.OpError](err); ok && (e.Op == "remote error" || e.Op == "local error") {
		return true
	}
	return errors.Is(err, http.ErrSchemeMismatch) ||
		is[*tls.CertificateVerificationError](err) || is[tls.RecordHeaderError](err) || is[tls.AlertError](err) ||
		is[x509.UnknownAuthorityError](err) || is[x509.HostnameError](err) || is[x509.CertificateInvalidError](err) ||
		is[x509.SystemRootsError](err)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
