package config

import (
	"slices"
	"strings"
)

// A scope is the kind of block that a setting belongs to.
type scope string

const (
	scopeTop       scope = "the top level of a file"
	scopeStorage   scope = `storage "bbolt"`
	scopeTCP       scope = `listener "tcp"`
	scopeUnix      scope = `listener "unix"`
	scopeListener  scope = "listener" // both kinds
	scopeTelemetry scope = "telemetry of a listener"
	scopeAge       scope = `recovery "age"`
	scopeShares    scope = `recovery "shares"`
	scopeAudit     scope = "audit" // every kind
	scopeSeal      scope = "seal"  // every kind
)

func sealScope(typ string) scope { return scope(`seal "` + typ + `"`) }

type kind int

const (
	text kind = iota
	boolean
	number
	texts // a list in brackets, or one text; the value joins them by commas
)

// A setting is one row of the table that drives parsing, precedence, the help in errors and the reference in the
// package documentation.
type setting struct {
	in   scope
	key  string
	kind kind

	steer []string // variables that win over the file; a name that ends in _FILE holds the path of a file with the value
	env   []string // variables that count if the file does not set the key; likewise
	// chain: env is read by the AWS SDK inside the seal, never here; it is only compared with the file.
	chain bool
	// firstWins: env variables may differ; the first one wins, with a warning unless its name extends the other's, which
	// makes it the more specific one. Without firstWins twins must agree.
	firstWins bool

	required bool
	def      string            // default value
	alias    map[string]string // other words for a value; case is then ignored
	secret   bool              // never shown
	indirect bool              // env://NAME and file:///path are followed
	raw      bool              // bytes: exactly 32 of them are taken as they are

	check func(string) string // returns what is wrong with a value and what to write, or ""; never quotes a secret

	ignored string // why this key of Vault's has no effect here: a warning; a key may end in * for several
	refused string // why this key of Vault's is an error here, unless it is a boolean and false
	doc     string
}

// sealType is the type of a seal: a block's label, which these variables replace.
var sealType = setting{in: scopeSeal, key: "type", steer: []string{"VAULT_SEAL_TYPE", "BAO_SEAL_TYPE", "KMS_BACKEND"},
	doc: "awskms, transit, vaultkv or static"}

const (
	oneNode = "sealkeep is a single node"
	ownHTTP = "sealkeep has its own limits"
	noProxy = "sealkeep takes client certificates from TLS connections only, never from a header: remove it, and let these clients connect without a proxy that ends TLS"
	noPROXY = "sealkeep does not speak the PROXY protocol: remove it, and do not let the load balancer send it"
	noACME  = "sealkeep fetches no certificates: remove it, and write tls_cert_file and tls_key_file"
	noPlug  = "there are no plugins"
	noCORS  = "no other web site may use the API"
	checks  = "sealkeep checks its seals on a plan of its own"
)

// table lists every key that a file may have.
var table = []setting{
	{in: scopeTop, key: "api_addr", check: checkURL, doc: "URL under which clients reach this keep"},
	{in: scopeTop, key: "log_level", def: "info", alias: map[string]string{"notice": "info", "warning": "warn", "err": "error"}, check: oneOf("trace", "debug", "info", "warn", "error"), doc: "trace, debug, info, warn or error"},
	{in: scopeTop, key: "log_format", def: "text", alias: map[string]string{"standard": "text"}, check: oneOf("text", "json"), doc: "text or json (Vault's standard is text)"},
	{in: scopeTop, key: "pid_file", doc: "file that gets the process ID"},
	{in: scopeTop, key: "enable_generate_root", kind: boolean, def: "false", doc: "let people with recovery shares make a new root token"},
	{in: scopeTop, key: "rate_limit_per_token", kind: number, def: "0", check: checkRate, doc: "requests a second that each token may make; 0: any number"},
	{in: scopeTop, key: "rate_limit_per_token_burst", kind: number, check: checkRate, doc: "how many of them at once; as many as in a second if unset"},
	{in: scopeTop, key: "rate_limit_per_source", kind: number, def: "0", check: checkRate, doc: "requests a second from each address (of IPv6: each /64); 0: any number"},
	{in: scopeTop, key: "rate_limit_per_source_burst", kind: number, check: checkRate, doc: "how many of them at once; as many as in a second if unset"},

	{in: scopeTop, key: "unsafe_allow_api_audit_creation", kind: boolean, def: "false", doc: "let the API add audit devices, and so write to any file of this machine that the keep may write to"},

	{in: scopeTop, key: "ui", kind: boolean, ignored: "there is no web interface"},
	{in: scopeTop, key: "disable_mlock", kind: boolean, ignored: "sealkeep does not lock its memory; the unit's MemorySwapMax=0 keeps it out of swap"},
	{in: scopeTop, key: "disable_cache", kind: boolean, ignored: "there is no cache to disable"},
	{in: scopeTop, key: "cache_size", kind: number, ignored: "there is no cache"},
	{in: scopeTop, key: "cluster_addr", ignored: oneNode},
	{in: scopeTop, key: "cluster_name", ignored: oneNode},
	{in: scopeTop, key: "disable_clustering", kind: boolean, ignored: oneNode},
	{in: scopeTop, key: "disable_performance_standby", kind: boolean, ignored: oneNode},
	{in: scopeTop, key: "disable_sealwrap", kind: boolean, ignored: "there is no seal wrapping of values"},
	{in: scopeTop, key: "enable_multiseal", kind: boolean, ignored: "several seals are always allowed"},
	{in: scopeTop, key: "max_lease_ttl", ignored: "there are no leases"},
	{in: scopeTop, key: "default_lease_ttl", ignored: "there are no leases"},
	{in: scopeTop, key: "default_max_request_duration", ignored: ownHTTP},
	{in: scopeTop, key: "raw_storage_endpoint", kind: boolean, ignored: "there is no such endpoint"},
	{in: scopeTop, key: "introspection_endpoint", kind: boolean, ignored: "there is no such endpoint"},
	{in: scopeTop, key: "plugin", ignored: noPlug},
	{in: scopeTop, key: "plugin_*", ignored: noPlug},
	{in: scopeTop, key: "log_file", ignored: "the log goes to standard error"},
	{in: scopeTop, key: "log_rotate_*", ignored: "the log goes to standard error"},
	{in: scopeTop, key: "log_requests_level", ignored: "requests are not logged"},
	{in: scopeTop, key: "telemetry", ignored: "metrics are served at sys/metrics; unauthenticated_metrics_access belongs into a telemetry block inside a listener"},
	{in: scopeTop, key: "service_registration", ignored: oneNode},
	{in: scopeTop, key: "ha_storage", ignored: oneNode},
	{in: scopeTop, key: "ha_backend", ignored: oneNode},
	{in: scopeTop, key: "replication", ignored: oneNode},
	{in: scopeTop, key: "disable_standby_reads", kind: boolean, ignored: oneNode},
	{in: scopeTop, key: "cluster_cipher_suites", ignored: oneNode},
	{in: scopeTop, key: "license_path", ignored: "there is no license to pay for"},
	{in: scopeTop, key: "cloud", ignored: "sealkeep is joined to no cloud"},
	{in: scopeTop, key: "administrative_namespace_path", ignored: "there are no namespaces"},
	{in: scopeTop, key: "kms_library", ignored: "there are no libraries to load"},
	{in: scopeTop, key: "entropy", ignored: "random numbers come from the operating system"},
	{in: scopeTop, key: "sentinel", ignored: "there are no Sentinel policies"},
	{in: scopeTop, key: "experiments", ignored: "there are no experiments"},
	{in: scopeTop, key: "enable_response_header_*", ignored: "answers do not name the host"},
	{in: scopeTop, key: "imprecise_lease_role_tracking", kind: boolean, ignored: "there are no leases"},
	{in: scopeTop, key: "request_limiter", ignored: ownHTTP},
	{in: scopeTop, key: "disable_indexing", kind: boolean, ignored: "there is no index to disable"},
	{in: scopeTop, key: "disable_printable_check", kind: boolean, ignored: "names may be any text"},
	{in: scopeTop, key: "disable_sentinel_trace", kind: boolean, ignored: "there are no Sentinel policies"},
	{in: scopeTop, key: "detect_deadlocks", ignored: "it is a tool for Vault's developers"},
	{in: scopeTop, key: "unsafe_*", ignored: "nothing of it can be allowed here"},
	{in: scopeTop, key: "user_lockout", ignored: "there are no passwords to guess"},
	{in: scopeTop, key: "reporting", ignored: "nothing is reported to anyone"},
	{in: scopeTop, key: "retry_join", refused: "it belongs to Vault's raft storage, and sealkeep is a single node: remove it"},
	{in: scopeTop, key: "initialize", refused: "a keep does not initialize itself: remove it, and run sealkeep operator init once"},
	{in: scopeTop, key: "allow_audit_log_prefixing", kind: boolean, ignored: "lines of the audit log have no prefix"},
	{in: scopeTop, key: "backend", refused: `it is storage's name of old: write storage "bbolt" { path = "/var/lib/sealkeep/sealkeep.db" }`},

	{in: scopeStorage, key: "path", required: true, check: checkFile, doc: "the store's file"},
	{in: scopeStorage, key: "initial_mmap_size", kind: number, doc: "bytes of address space to map; 0 or nothing leaves it to the store"},

	{in: scopeTCP, key: "address", def: "127.0.0.1:8200", check: checkHostPort, doc: "host:port"},
	{in: scopeTCP, key: "tls_cert_file", doc: "PEM certificate chain"},
	{in: scopeTCP, key: "tls_key_file", doc: "PEM private key"},
	{in: scopeTCP, key: "tls_disable", kind: boolean, def: "false", doc: "plain HTTP; must be said where the address is not a loopback one"},
	{in: scopeTCP, key: "tls_min_version", def: "tls12", check: oneOf("tls12", "tls13"), doc: "tls12 or tls13"},
	{in: scopeTCP, key: "tls_require_and_verify_client_cert", kind: boolean, def: "false", doc: "serve nobody without a certificate of tls_client_ca_file"},
	{in: scopeTCP, key: "tls_client_ca_file", doc: "PEM certificates of the authorities of clients; the system's when unset"},
	{in: scopeTCP, key: "tls_disable_client_certs", kind: boolean, def: "false", doc: "do not even ask for client certificates; who logs in with one needs to be asked"},
	{in: scopeTCP, key: "x_forwarded_for_authorized_addrs", kind: texts, check: checkAddrs, doc: "addresses and CIDR ranges of the proxies whose X-Forwarded-For is believed"},
	{in: scopeTCP, key: "x_forwarded_for_hop_skips", kind: number, def: "0", check: checkHops, doc: "how many addresses at the end of X-Forwarded-For are those of proxies"},
	{in: scopeTCP, key: "x_forwarded_for_reject_not_present", kind: boolean, def: "true", doc: "refuse requests without X-Forwarded-For; else the client is whoever connects"},
	{in: scopeTCP, key: "x_forwarded_for_reject_not_authorized", kind: boolean, def: "true", doc: "refuse X-Forwarded-For of others than these proxies; else it is not heeded"},
	{in: scopeTCP, key: "cluster_address", ignored: oneNode},
	{in: scopeTCP, key: "tls_cipher_suites", ignored: "sealkeep offers the cipher suites that Go counts as secure"},
	{in: scopeTCP, key: "tls_prefer_server_cipher_suites", kind: boolean, ignored: "sealkeep offers the cipher suites that Go counts as secure"},
	{in: scopeTCP, key: "tls_key_exchange_preferences", ignored: "Go chooses the key exchange"},
	{in: scopeTCP, key: "tls_max_version", ignored: "there is no upper bound to the TLS version"},
	{in: scopeTCP, key: "tls_auto_reload", kind: boolean, ignored: "certificates are always read again when their files change, within 2 seconds"},
	{in: scopeTCP, key: "tls_auto_reload_interval", ignored: "certificates are always read again when their files change, within 2 seconds"},
	{in: scopeTCP, key: "tls_acme_*", refused: noACME},
	{in: scopeTCP, key: "proxy_protocol_*", refused: noPROXY},
	{in: scopeListener, key: "x_forwarded_for_client_cert_*", refused: noProxy},
	{in: scopeListener, key: "chroot_namespace", refused: "there are no namespaces: remove it"},
	{in: scopeListener, key: "require_request_header", kind: boolean, refused: "sealkeep does not ask for the header X-Vault-Request: remove it"},
	{in: scopeListener, key: "redact_*", kind: boolean, ignored: "seal-status and health tell everyone what Vault's tell by default"},
	{in: scopeListener, key: "custom_response_headers", ignored: "answers have sealkeep's own headers only"},
	{in: scopeListener, key: "cors_*", ignored: noCORS},
	{in: scopeListener, key: "disable_unauthed_*", kind: boolean, ignored: "there are no such endpoints"},
	{in: scopeListener, key: "disable_replication_status_endpoints", kind: boolean, ignored: "there are no such endpoints"},
	{in: scopeListener, key: "disable_request_limiter", kind: boolean, ignored: ownHTTP},
	{in: scopeListener, key: "inflight_requests_logging", ignored: "there are no such endpoints"},
	{in: scopeListener, key: "purpose", ignored: "every listener serves the whole API"},
	{in: scopeListener, key: "max_request_*", ignored: ownHTTP},
	{in: scopeListener, key: "max_json_*", ignored: ownHTTP},
	{in: scopeListener, key: "http_*", ignored: ownHTTP},
	{in: scopeListener, key: "profiling", ignored: "there are no profiling endpoints"},

	{in: scopeUnix, key: "address", required: true, check: checkFile, doc: "the socket's path"},
	{in: scopeUnix, key: "socket_mode", def: "0600", check: checkMode, doc: "octal permissions"},
	{in: scopeUnix, key: "socket_user", doc: "owner, name or number"},
	{in: scopeUnix, key: "socket_group", doc: "group, name or number"},
	{in: scopeUnix, key: "operator", kind: boolean, def: "false", doc: "let root open a keep that was sealed by request; needs socket_mode 0600, and no proxy in front"},
	{in: scopeUnix, key: "tls_disable", kind: boolean, ignored: "a unix socket is never encrypted"},
	{in: scopeUnix, key: "x_forwarded_for_*", ignored: "whoever connects to a socket has no address, X-Forwarded-For is not believed"},

	{in: scopeTelemetry, key: "unauthenticated_metrics_access", kind: boolean, def: "false", doc: "serve metrics without a token after unsealing too"},

	{in: scopeTelemetry, key: "disallow_metrics", kind: boolean, refused: "metrics cannot be left out of a listener: remove it; after unsealing they need a token unless unauthenticated_metrics_access is true"},
	{in: scopeTelemetry, key: "metrics_only", kind: boolean, refused: "a listener serves the whole API or does not exist: remove the listener"},

	{in: scopeAge, key: "recipients", kind: texts, required: true, check: checkRecipients, doc: "age1... of each person who may open the keep alone"},

	{in: scopeAudit, key: "description", doc: "any text, shown by sealkeep audit list"},
	{in: scopeAudit, key: "log_raw", kind: boolean, def: "false", doc: "write tokens and secrets in the clear"},
	{in: scopeAudit, key: "hmac_accessor", kind: boolean, def: "true", doc: "hide the accessors of tokens, too"},
	{in: scopeAudit, key: "elide_list_responses", kind: boolean, def: "false", doc: "write how many keys a list had in the place of their HMACs"},
	{in: scopeAudit, key: "format", def: "json", check: oneOf("json"), doc: "json"},
	{in: scopeAudit, key: "local", kind: boolean, ignored: oneNode},
	{in: scopeAudit, key: "skip_test", kind: boolean, ignored: "a device is tried when it is opened, and again until it works"},
	{in: scopeAudit, key: "prefix", refused: "lines of the audit log have no prefix: remove it"},
	{in: scopeAudit, key: "filter", refused: "every device gets every record: remove it"},
	{in: scopeAudit, key: "exclude", refused: "every device gets every record: remove it"},
	{in: scopeAudit, key: "fallback", kind: boolean, refused: "every device gets every record: remove it"},
	{in: `audit "file"`, key: "file_path", required: true, check: checkAuditFile, doc: "absolute path of a file in a folder that is there, or of a pipe; or stdout, or discard"},
	{in: `audit "file"`, key: "mode", def: "0600", check: checkMode, doc: "octal permissions; 0000 leaves those that it has"},
	{in: `audit "socket"`, key: "address", required: true, doc: "host:port, or the path of a unix socket"},
	{in: `audit "socket"`, key: "socket_type", def: "tcp", check: oneOf("tcp", "unix"), doc: "tcp or unix"},
	{in: `audit "socket"`, key: "write_timeout", def: "2s", check: checkTimeout, doc: "how long the collector may take for one line, up to 1m"},

	{in: scopeSeal, key: "name", check: checkName, doc: "name of the slot, letters, digits, - and _; default is the type"},
	{in: scopeSeal, key: "priority", check: checkPriority, doc: "1 or more, the lowest is tried first; default is the order of appearance"},
	{in: scopeSeal, key: "disabled", kind: boolean, def: "false", doc: "keep the slot, try it last, wrap nothing new with it"},
	{in: scopeSeal, key: "health_check_*", ignored: checks},

	{in: `seal "awskms"`, key: "kms_key_id", required: true, check: checkKMSKey, steer: []string{"VAULT_AWSKMS_SEAL_KEY_ID", "AWSKMS_WRAPPER_KEY_ID"},
		doc: "key ID, key ARN, alias/NAME or alias ARN"},
	{in: `seal "awskms"`, key: "region", check: checkRegion, env: []string{"AWS_REGION", "AWS_DEFAULT_REGION"}, firstWins: true,
		doc: "must be the ARN's if there is one; when unset it comes from the ARN, then the variables, the profile or the instance"},
	{in: `seal "awskms"`, key: "endpoint", check: checkURL, steer: []string{"AWS_KMS_ENDPOINT"}, env: []string{"AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL"}, firstWins: true,
		doc: "URL of another KMS endpoint; when unset it comes from the variables, then the profile"},
	{in: `seal "awskms"`, key: "access_key", secret: true, indirect: true, chain: true, env: []string{"AWS_ACCESS_KEY_ID"}, doc: "only together with secret_key"},
	{in: `seal "awskms"`, key: "secret_key", secret: true, indirect: true, chain: true, env: []string{"AWS_SECRET_ACCESS_KEY"}, doc: "only together with access_key"},
	{in: `seal "awskms"`, key: "session_token", secret: true, indirect: true, chain: true, env: []string{"AWS_SESSION_TOKEN"}, doc: "of temporary credentials, with both keys"},
	{in: `seal "awskms"`, key: "shared_creds_filename", chain: true, env: []string{"AWS_SHARED_CREDENTIALS_FILE"}, doc: "shared credentials file"},
	{in: `seal "awskms"`, key: "shared_creds_profile", chain: true, env: []string{"AWS_PROFILE"}, doc: "profile in it"},
	{in: `seal "awskms"`, key: "role_arn", chain: true, env: []string{"AWS_ROLE_ARN"}, doc: "role to assume"},
	{in: `seal "awskms"`, key: "role_session_name", chain: true, env: []string{"AWS_ROLE_SESSION_NAME"}, doc: "name of that session"},
	{in: `seal "awskms"`, key: "web_identity_token_file", chain: true, env: []string{"AWS_WEB_IDENTITY_TOKEN_FILE"}, doc: "token file for role_arn"},
	{in: `seal "awskms"`, key: "disallow_env_vars", refused: "sealkeep reads the variables itself, and by the table in its reference: unset the variable that must not count"},
	{in: `seal "awskms"`, key: "key_not_required", refused: "a seal without a key wraps nothing: remove it and write kms_key_id"},

	{in: `seal "transit"`, key: "address", required: true, check: checkAddress, steer: []string{"VAULT_TRANSIT_SEAL_ADDR", "TRANSIT_WRAPPER_ADDR"}, env: []string{"VAULT_ADDR", "BAO_ADDR"},
		doc: "URL of the server with the Transit engine, never this keep's own"},
	{in: `seal "transit"`, key: "kube_auth_role", env: []string{"VAULT_KUBE_AUTH_ROLE"}, doc: "role to log in to with a Kubernetes service account, without a token"},
	{in: `seal "transit"`, key: "kube_auth_name", check: checkPath, env: []string{"VAULT_KUBE_AUTH_NAME"}, doc: "where that login is mounted under auth/; kubernetes if unset"},
	{in: `seal "transit"`, key: "kube_token_file", doc: "the service account's token; the pod's own if unset"},
	{in: `seal "transit"`, key: "token", required: true, secret: true, indirect: true, steer: []string{"VAULT_TRANSIT_SEAL_TOKEN", "TRANSIT_WRAPPER_TOKEN"},
		env: []string{"VAULT_TOKEN", "BAO_TOKEN", "VAULT_TOKEN_FILE", "BAO_TOKEN_FILE"}, doc: "orphan, periodic, with update on encrypt and decrypt; else kube_auth_role"},
	{in: `seal "transit"`, key: "key_name", required: true, steer: []string{"VAULT_TRANSIT_SEAL_KEY_NAME", "TRANSIT_WRAPPER_KEY_NAME", "KMS_TRANSIT_KEY"}, doc: "key in the engine"},
	{in: `seal "transit"`, key: "mount_path", required: true, steer: []string{"VAULT_TRANSIT_SEAL_MOUNT_PATH", "TRANSIT_WRAPPER_MOUNT_PATH", "KMS_TRANSIT_ENGINE"}, doc: "where the engine is mounted, usually transit/"},
	{in: `seal "transit"`, key: "namespace", env: []string{"VAULT_NAMESPACE", "BAO_NAMESPACE"}, doc: "namespace of the engine"},
	{in: `seal "transit"`, key: "disable_renewal", kind: boolean, def: "false", steer: []string{"VAULT_TRANSIT_SEAL_DISABLE_RENEWAL", "TRANSIT_WRAPPER_DISABLE_RENEWAL"}, doc: "leave the token's renewal to someone else"},
	{in: `seal "transit"`, key: "key_id_prefix", doc: "goes before the key's version in key IDs"},
	{in: `seal "transit"`, key: "tls_ca_cert", env: []string{"VAULT_CACERT", "BAO_CACERT"}, doc: "PEM file of the server's CA"},
	{in: `seal "transit"`, key: "tls_ca_path", env: []string{"VAULT_CAPATH", "BAO_CAPATH"}, doc: "folder of PEM files of CAs"},
	{in: `seal "transit"`, key: "tls_client_cert", env: []string{"VAULT_CLIENT_CERT", "BAO_CLIENT_CERT"}, doc: "PEM file, only together with tls_client_key"},
	{in: `seal "transit"`, key: "tls_client_key", indirect: true, env: []string{"VAULT_CLIENT_KEY", "BAO_CLIENT_KEY"}, doc: "PEM file, only together with tls_client_cert"},
	{in: `seal "transit"`, key: "tls_server_name", env: []string{"VAULT_TLS_SERVER_NAME", "BAO_TLS_SERVER_NAME"}, doc: "name to expect in the server's certificate"},
	{in: `seal "transit"`, key: "tls_skip_verify", kind: boolean, def: "false", env: []string{"VAULT_SKIP_VERIFY", "BAO_SKIP_VERIFY"}, doc: "do not verify the server's certificate: for tests"},

	{in: `seal "vaultkv"`, key: "address", required: true, check: checkAddress, env: []string{"VAULT_ADDR", "BAO_ADDR"}, doc: "URL of the server with the secret, never this keep's own"},
	{in: `seal "vaultkv"`, key: "key_path", required: true, check: checkKVPath, steer: []string{"KMS_VAULT_KEY_PATH"},
		doc: "MOUNT/data/NAME of a KV version 2 secret, whose field \"key\" is base64 of 32 bytes"},
	{in: `seal "vaultkv"`, key: "kube_auth_role", env: []string{"VAULT_KUBE_AUTH_ROLE"}, doc: "role to log in to with a Kubernetes service account, without a token"},
	{in: `seal "vaultkv"`, key: "kube_auth_name", check: checkPath, env: []string{"VAULT_KUBE_AUTH_NAME"}, doc: "where that login is mounted under auth/; kubernetes if unset"},
	{in: `seal "vaultkv"`, key: "kube_token_file", doc: "the service account's token; the pod's own if unset"},
	{in: `seal "vaultkv"`, key: "token", required: true, secret: true, indirect: true, env: []string{"VAULT_TOKEN", "BAO_TOKEN", "VAULT_TOKEN_FILE", "BAO_TOKEN_FILE"},
		doc: "orphan, periodic, with read on key_path; else kube_auth_role"},
	{in: `seal "vaultkv"`, key: "namespace", env: []string{"VAULT_NAMESPACE", "BAO_NAMESPACE"}, doc: "namespace of the secret"},
	{in: `seal "vaultkv"`, key: "tls_ca_cert", env: []string{"VAULT_CACERT", "BAO_CACERT"}, doc: "PEM file of the server's CA"},
	{in: `seal "vaultkv"`, key: "tls_ca_path", env: []string{"VAULT_CAPATH", "BAO_CAPATH"}, doc: "folder of PEM files of CAs"},
	{in: `seal "vaultkv"`, key: "tls_client_cert", env: []string{"VAULT_CLIENT_CERT", "BAO_CLIENT_CERT"}, doc: "PEM file, only together with tls_client_key"},
	{in: `seal "vaultkv"`, key: "tls_client_key", indirect: true, env: []string{"VAULT_CLIENT_KEY", "BAO_CLIENT_KEY"}, doc: "PEM file, only together with tls_client_cert"},
	{in: `seal "vaultkv"`, key: "tls_server_name", env: []string{"VAULT_TLS_SERVER_NAME", "BAO_TLS_SERVER_NAME"}, doc: "name to expect in the server's certificate"},
	{in: `seal "vaultkv"`, key: "tls_skip_verify", kind: boolean, def: "false", env: []string{"VAULT_SKIP_VERIFY", "BAO_SKIP_VERIFY"}, doc: "do not verify the server's certificate: for tests"},

	{in: `seal "static"`, key: "current_key", required: true, secret: true, indirect: true, raw: true, check: checkKey,
		steer: []string{"BAO_STATIC_SEAL_CURRENT_KEY", "KMS_KEY", "KMS_KEY_FILE"}, doc: "32 bytes: raw, hexadecimal (64) or base64 (44 or 43 characters); sealkeep keygen makes one"},
	{in: `seal "static"`, key: "current_key_id", required: true, steer: []string{"BAO_STATIC_SEAL_CURRENT_KEY_ID"}, doc: "its name, any text"},
	{in: `seal "static"`, key: "previous_key", secret: true, indirect: true, raw: true, check: checkKey, steer: []string{"BAO_STATIC_SEAL_PREVIOUS_KEY"}, doc: "the key before it, still opens"},
	{in: `seal "static"`, key: "previous_key_id", steer: []string{"BAO_STATIC_SEAL_PREVIOUS_KEY_ID"}, doc: "its name"},
}

// sealTypes returns the types of seals, in the order of the table.
func sealTypes() []string { return []string{"awskms", "transit", "vaultkv", "static"} }

// find returns the row of a key in any of the scopes.
func find(key string, in ...scope) (setting, bool) {
	for _, s := range table {
		prefix, several := strings.CutSuffix(s.key, "*")
		if (s.key == key || several && strings.HasPrefix(key, prefix)) && slices.Contains(in, s.in) {
			return s, true
		}
	}
	return setting{}, false
}

// rows returns the rows of the scopes, without those that have no effect, in the table's order.
func rows(in ...scope) []setting {
	var out []setting
	for _, s := range table {
		if slices.Contains(in, s.in) && s.ignored == "" && s.refused == "" {
			out = append(out, s)
		}
	}
	return out
}
