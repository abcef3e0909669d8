// Package config turns HCL files and the environment into plain data, or into an error that lists every mistake with
// its file and line. It only reads: it creates nothing and uses no network. Loading costs one pass over each file and
// over one table in code, from which the reference below is generated.
//
// # Files
//
// A file is HCL v2, or HCL's JSON when its name ends in .json. Several files and folders are merged: lists of seals
// and listeners add up in the order of the files; anything else may be set only once. Vault's habits work: 1, 0, "true"
// and "false" are booleans, numbers may be in quotes, text may be a number, and an empty text counts as unset. A key
// that only Vault has is a warning if sealkeep can do without it; an unknown key is an error. Nothing is computed:
// there are no operators and no loops. Without a storage block the store is $STATE_DIRECTORY/sealkeep.db; without a
// listener sealkeep serves plain HTTP on 127.0.0.1:8200.
//
// Three functions read values from elsewhere: env("NAME"), file("/path") and credential("name"), a file in systemd's
// $CREDENTIALS_DIRECTORY. A value marked "follows" below may also be env://NAME or file:///path (if the value is a
// path, file:///path is that path). One newline is removed from the end of what is read, except that a key of exactly
// 32 bytes is never changed.
//
// # Listeners
//
// A listener with a certificate speaks TLS 1.3, and 1.2 unless tls_min_version says otherwise. Its files are read again on
// SIGHUP, and once they have changed and then stay unchanged for a second; if the new ones do not match, the old ones stay
// in force. Clients are asked for a certificate but need none, unless tls_require_and_verify_client_cert is true. A listener
// without TLS that other machines can reach must say tls_disable = true, and gives a warning at every start.
//
// Behind a proxy the client is the address in X-Forwarded-For, if the proxy is one of x_forwarded_for_authorized_addrs. The
// last address counts, after skipping x_forwarded_for_hop_skips of them at the end: addresses that clients make up come
// before those.
//
// A listener "unix" with operator = true lets root lift the hold of `sealkeep operator seal`: otherwise only a restart or
// people open a keep that was sealed by request. Its socket_mode must be 0600. A request with Forwarded, X-Forwarded-* or Via
// never counts, whoever sends it. Even so, do not put a proxy in front of that socket: one that runs as root would make every
// caller root.
//
// # Seals
//
// One block per key service, seal "awskms", "transit", "vaultkv" or "static", tried by priority. A parameter comes from, in
// this order:
//
//  1. the variables under "wins", made to steer a seal: they win over the file;
//  2. the file;
//  3. the variables under "else", that other programs read too;
//  4. the default.
//
// Variables in one list mean the same: those that are set must agree (AWS_REGION wins over AWS_DEFAULT_REGION with a
// warning, and AWS_ENDPOINT_URL_KMS, which is more specific, over AWS_ENDPOINT_URL without one; neither counts if
// AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is true). If a file and a variable differ, a warning says which one wins. A variable
// that ends in _FILE holds the path of a file with the value. A variable that is set but empty counts as unset.
//
// VAULT_SEAL_TYPE, BAO_SEAL_TYPE or KMS_BACKEND make a seal without any block, or change the type of the only enabled
// block, whose parameters are then dropped with a warning. With several enabled blocks the variables under "wins" must say
// which one they mean: VAULT_SEAL_TYPE_backup, VAULT_AWSKMS_SEAL_KEY_ID_backup and so on apply to the seal named backup
// (- in a name is _ in a variable).
//
// The variables of terraform-backend work as they are: KMS_BACKEND=local is a static seal with the key of KMS_KEY
// or KMS_KEY_FILE, whose current_key_id is derived from it unless one is given; KMS_BACKEND=vault is vaultkv with the key
// at KMS_VAULT_KEY_PATH; KMS_BACKEND=transit is transit. A variable that ends in _FILE wins over its twin that does not.
//
// A transit or vaultkv seal uses its token. Without one it logs in with a Kubernetes service account, to the role of
// kube_auth_role. If a block says kube_auth_role, the general variables with a token do not count.
//
// AWS credentials are not copied from the environment: the AWS SDK reads the variables marked "SDK" if the block has no
// credentials. If a transit or vaultkv block has any tls_ key, no TLS variable counts. This keep's own address is refused.
//
// # Recovery
//
// People can open a keep, too. recovery "age" { recipients = ["age1..."] } names those who may do so alone, each with an
// age identity that is kept elsewhere. recovery "shares" {} only says that shares, made by init, are enough. With either
// of them a keep needs no seal; without a seal it waits for people at each start. After a reload with changed recipients,
// old and new ones open the keep; the old ones end when the identity of a new one is given (sealkeep operator recovery
// verify).
//
// # Audit
//
// Each block is a device that gets every record: audit "file", "journal" (systemd's) or "socket". A second label is its
// name, by default its type; in JSON it is required. As in OpenBao, the options may be in a nested block options { }. On
// SIGHUP blocks may be added, changed and removed, and files are reopened. If a device cannot be opened then, the whole
// reload is refused and the old configuration stays in force.
//
// # Reference
//
// The columns are the key, what it is, and its default or "required".
//
// At the top level:
//
//	api_addr                        URL under which clients reach this keep
//	log_level                       trace, debug, info, warn or error [info]
//	log_format                      text or json (Vault's standard is text) [text]
//	pid_file                        file that gets the process ID
//	enable_generate_root            let people with recovery shares make a new root token [false]
//	rate_limit_per_token            requests a second that each token may make; 0: any number [0]
//	rate_limit_per_token_burst      how many of them at once; as many as in a second if unset
//	rate_limit_per_source           requests a second from each address (of IPv6: each /64); 0: any number [0]
//	rate_limit_per_source_burst     how many of them at once; as many as in a second if unset
//	unsafe_allow_api_audit_creation let the API add audit devices, and so write to any file of this machine that the keep may write to [false]
//
// storage "bbolt":
//
//	path                            the store's file [required]
//	initial_mmap_size               bytes of address space to map; 0 or nothing leaves it to the store
//
// listener "tcp":
//
//	address                         host:port [127.0.0.1:8200]
//	tls_cert_file                   PEM certificate chain
//	tls_key_file                    PEM private key
//	tls_disable                     plain HTTP; must be said where the address is not a loopback one [false]
//	tls_min_version                 tls12 or tls13 [tls12]
//	tls_require_and_verify_client_cert serve nobody without a certificate of tls_client_ca_file [false]
//	tls_client_ca_file              PEM certificates of the authorities of clients; the system's when unset
//	tls_disable_client_certs        do not even ask for client certificates; who logs in with one needs to be asked [false]
//	x_forwarded_for_authorized_addrs addresses and CIDR ranges of the proxies whose X-Forwarded-For is believed
//	x_forwarded_for_hop_skips       how many addresses at the end of X-Forwarded-For are those of proxies [0]
//	x_forwarded_for_reject_not_present refuse requests without X-Forwarded-For; else the client is whoever connects [true]
//	x_forwarded_for_reject_not_authorized refuse X-Forwarded-For of others than these proxies; else it is not heeded [true]
//
// listener "unix":
//
//	address                         the socket's path [required]
//	socket_mode                     octal permissions [0600]
//	socket_user                     owner, name or number
//	socket_group                    group, name or number
//	operator                        let root open a keep that was sealed by request; needs socket_mode 0600, and no proxy in front [false]
//
// telemetry, inside a listener:
//
//	unauthenticated_metrics_access  serve metrics without a token after unsealing too [false]
//
// recovery "age":
//
//	recipients                      age1... of each person who may open the keep alone [required]
//
// audit:
//
//	description                     any text, shown by sealkeep audit list
//	log_raw                         write tokens and secrets in the clear [false]
//	hmac_accessor                   hide the accessors of tokens, too [true]
//	elide_list_responses            write how many keys a list had in the place of their HMACs [false]
//	format                          json [json]
//
// audit "file":
//
//	file_path                       absolute path of a file in a folder that is there, or of a pipe; or stdout, or discard [required]
//	mode                            octal permissions; 0000 leaves those that it has [0600]
//
// audit "socket":
//
//	address                         host:port, or the path of a unix socket [required]
//	socket_type                     tcp or unix [tcp]
//	write_timeout                   how long the collector may take for one line, up to 1m [2s]
//
// Every seal:
//
//	name                            name of the slot, letters, digits, - and _; default is the type
//	priority                        1 or more, the lowest is tried first; default is the order of appearance
//	disabled                        keep the slot, try it last, wrap nothing new with it [false]
//
// seal "awskms":
//
//	kms_key_id                      key ID, key ARN, alias/NAME or alias ARN [required]
//	                                  wins: VAULT_AWSKMS_SEAL_KEY_ID, AWSKMS_WRAPPER_KEY_ID
//	region                          must be the ARN's if there is one; when unset it comes from the ARN, then the variables, the profile or the instance
//	                                  else: AWS_REGION, AWS_DEFAULT_REGION
//	endpoint                        URL of another KMS endpoint; when unset it comes from the variables, then the profile
//	                                  wins: AWS_KMS_ENDPOINT
//	                                  else: AWS_ENDPOINT_URL_KMS, AWS_ENDPOINT_URL
//	access_key                      only together with secret_key; secret; follows
//	                                  SDK: AWS_ACCESS_KEY_ID
//	secret_key                      only together with access_key; secret; follows
//	                                  SDK: AWS_SECRET_ACCESS_KEY
//	session_token                   of temporary credentials, with both keys; secret; follows
//	                                  SDK: AWS_SESSION_TOKEN
//	shared_creds_filename           shared credentials file
//	                                  SDK: AWS_SHARED_CREDENTIALS_FILE
//	shared_creds_profile            profile in it
//	                                  SDK: AWS_PROFILE
//	role_arn                        role to assume
//	                                  SDK: AWS_ROLE_ARN
//	role_session_name               name of that session
//	                                  SDK: AWS_ROLE_SESSION_NAME
//	web_identity_token_file         token file for role_arn
//	                                  SDK: AWS_WEB_IDENTITY_TOKEN_FILE
//
// seal "transit":
//
//	address                         URL of the server with the Transit engine, never this keep's own [required]
//	                                  wins: VAULT_TRANSIT_SEAL_ADDR, TRANSIT_WRAPPER_ADDR
//	                                  else: VAULT_ADDR, BAO_ADDR
//	kube_auth_role                  role to log in to with a Kubernetes service account, without a token
//	                                  else: VAULT_KUBE_AUTH_ROLE
//	kube_auth_name                  where that login is mounted under auth/; kubernetes if unset
//	                                  else: VAULT_KUBE_AUTH_NAME
//	kube_token_file                 the service account's token; the pod's own if unset
//	token                           orphan, periodic, with update on encrypt and decrypt; else kube_auth_role; secret; follows [required]
//	                                  wins: VAULT_TRANSIT_SEAL_TOKEN, TRANSIT_WRAPPER_TOKEN
//	                                  else: VAULT_TOKEN, BAO_TOKEN, VAULT_TOKEN_FILE, BAO_TOKEN_FILE
//	key_name                        key in the engine [required]
//	                                  wins: VAULT_TRANSIT_SEAL_KEY_NAME, TRANSIT_WRAPPER_KEY_NAME, KMS_TRANSIT_KEY
//	mount_path                      where the engine is mounted, usually transit/ [required]
//	                                  wins: VAULT_TRANSIT_SEAL_MOUNT_PATH, TRANSIT_WRAPPER_MOUNT_PATH, KMS_TRANSIT_ENGINE
//	namespace                       namespace of the engine
//	                                  else: VAULT_NAMESPACE, BAO_NAMESPACE
//	disable_renewal                 leave the token's renewal to someone else [false]
//	                                  wins: VAULT_TRANSIT_SEAL_DISABLE_RENEWAL, TRANSIT_WRAPPER_DISABLE_RENEWAL
//	key_id_prefix                   goes before the key's version in key IDs
//	tls_ca_cert                     PEM file of the server's CA
//	                                  else: VAULT_CACERT, BAO_CACERT
//	tls_ca_path                     folder of PEM files of CAs
//	                                  else: VAULT_CAPATH, BAO_CAPATH
//	tls_client_cert                 PEM file, only together with tls_client_key
//	                                  else: VAULT_CLIENT_CERT, BAO_CLIENT_CERT
//	tls_client_key                  PEM file, only together with tls_client_cert; follows
//	                                  else: VAULT_CLIENT_KEY, BAO_CLIENT_KEY
//	tls_server_name                 name to expect in the server's certificate
//	                                  else: VAULT_TLS_SERVER_NAME, BAO_TLS_SERVER_NAME
//	tls_skip_verify                 do not verify the server's certificate: for tests [false]
//	                                  else: VAULT_SKIP_VERIFY, BAO_SKIP_VERIFY
//
// seal "vaultkv":
//
//	address                         URL of the server with the secret, never this keep's own [required]
//	                                  else: VAULT_ADDR, BAO_ADDR
//	key_path                        MOUNT/data/NAME of a KV version 2 secret, whose field "key" is base64 of 32 bytes [required]
//	                                  wins: KMS_VAULT_KEY_PATH
//	kube_auth_role                  role to log in to with a Kubernetes service account, without a token
//	                                  else: VAULT_KUBE_AUTH_ROLE
//	kube_auth_name                  where that login is mounted under auth/; kubernetes if unset
//	                                  else: VAULT_KUBE_AUTH_NAME
//	kube_token_file                 the service account's token; the pod's own if unset
//	token                           orphan, periodic, with read on key_path; else kube_auth_role; secret; follows [required]
//	                                  else: VAULT_TOKEN, BAO_TOKEN, VAULT_TOKEN_FILE, BAO_TOKEN_FILE
//	namespace                       namespace of the secret
//	                                  else: VAULT_NAMESPACE, BAO_NAMESPACE
//	tls_ca_cert                     PEM file of the server's CA
//	                                  else: VAULT_CACERT, BAO_CACERT
//	tls_ca_path                     folder of PEM files of CAs
//	                                  else: VAULT_CAPATH, BAO_CAPATH
//	tls_client_cert                 PEM file, only together with tls_client_key
//	                                  else: VAULT_CLIENT_CERT, BAO_CLIENT_CERT
//	tls_client_key                  PEM file, only together with tls_client_cert; follows
//	                                  else: VAULT_CLIENT_KEY, BAO_CLIENT_KEY
//	tls_server_name                 name to expect in the server's certificate
//	                                  else: VAULT_TLS_SERVER_NAME, BAO_TLS_SERVER_NAME
//	tls_skip_verify                 do not verify the server's certificate: for tests [false]
//	                                  else: VAULT_SKIP_VERIFY, BAO_SKIP_VERIFY
//
// seal "static":
//
//	current_key                     32 bytes: raw, hexadecimal (64) or base64 (44 or 43 characters); sealkeep keygen makes one; secret; follows [required]
//	                                  wins: BAO_STATIC_SEAL_CURRENT_KEY, KMS_KEY, KMS_KEY_FILE
//	current_key_id                  its name, any text [required]
//	                                  wins: BAO_STATIC_SEAL_CURRENT_KEY_ID
//	previous_key                    the key before it, still opens; secret; follows
//	                                  wins: BAO_STATIC_SEAL_PREVIOUS_KEY
//	previous_key_id                 its name
//	                                  wins: BAO_STATIC_SEAL_PREVIOUS_KEY_ID
//
// Keys of Vault's that have no effect, or are refused:
//
//	ui                              in the top level of a file: there is no web interface
//	disable_mlock                   in the top level of a file: sealkeep does not lock its memory; the unit's MemorySwapMax=0 keeps it out of swap
//	disable_cache                   in the top level of a file: there is no cache to disable
//	cache_size                      in the top level of a file: there is no cache
//	cluster_addr                    in the top level of a file: sealkeep is a single node
//	cluster_name                    in the top level of a file: sealkeep is a single node
//	disable_clustering              in the top level of a file: sealkeep is a single node
//	disable_performance_standby     in the top level of a file: sealkeep is a single node
//	disable_sealwrap                in the top level of a file: there is no seal wrapping of values
//	enable_multiseal                in the top level of a file: several seals are always allowed
//	max_lease_ttl                   in the top level of a file: there are no leases
//	default_lease_ttl               in the top level of a file: there are no leases
//	default_max_request_duration    in the top level of a file: sealkeep has its own limits
//	raw_storage_endpoint            in the top level of a file: there is no such endpoint
//	introspection_endpoint          in the top level of a file: there is no such endpoint
//	plugin                          in the top level of a file: there are no plugins
//	plugin_*                        in the top level of a file: there are no plugins
//	log_file                        in the top level of a file: the log goes to standard error
//	log_rotate_*                    in the top level of a file: the log goes to standard error
//	log_requests_level              in the top level of a file: requests are not logged
//	telemetry                       in the top level of a file: metrics are served at sys/metrics; unauthenticated_metrics_access belongs into a telemetry block inside a listener
//	service_registration            in the top level of a file: sealkeep is a single node
//	ha_storage                      in the top level of a file: sealkeep is a single node
//	ha_backend                      in the top level of a file: sealkeep is a single node
//	replication                     in the top level of a file: sealkeep is a single node
//	disable_standby_reads           in the top level of a file: sealkeep is a single node
//	cluster_cipher_suites           in the top level of a file: sealkeep is a single node
//	license_path                    in the top level of a file: there is no license to pay for
//	cloud                           in the top level of a file: sealkeep is joined to no cloud
//	administrative_namespace_path   in the top level of a file: there are no namespaces
//	kms_library                     in the top level of a file: there are no libraries to load
//	entropy                         in the top level of a file: random numbers come from the operating system
//	sentinel                        in the top level of a file: there are no Sentinel policies
//	experiments                     in the top level of a file: there are no experiments
//	enable_response_header_*        in the top level of a file: answers do not name the host
//	imprecise_lease_role_tracking   in the top level of a file: there are no leases
//	request_limiter                 in the top level of a file: sealkeep has its own limits
//	disable_indexing                in the top level of a file: there is no index to disable
//	disable_printable_check         in the top level of a file: names may be any text
//	disable_sentinel_trace          in the top level of a file: there are no Sentinel policies
//	detect_deadlocks                in the top level of a file: it is a tool for Vault's developers
//	unsafe_*                        in the top level of a file: nothing of it can be allowed here
//	user_lockout                    in the top level of a file: there are no passwords to guess
//	reporting                       in the top level of a file: nothing is reported to anyone
//	retry_join                      in the top level of a file, refused: it belongs to Vault's raft storage, and sealkeep is a single node: remove it
//	initialize                      in the top level of a file, refused: a keep does not initialize itself: remove it, and run sealkeep operator init once
//	allow_audit_log_prefixing       in the top level of a file: lines of the audit log have no prefix
//	backend                         in the top level of a file, refused: it is storage's name of old: write storage "bbolt" { path = "/var/lib/sealkeep/sealkeep.db" }
//	cluster_address                 in listener "tcp": sealkeep is a single node
//	tls_cipher_suites               in listener "tcp": sealkeep offers the cipher suites that Go counts as secure
//	tls_prefer_server_cipher_suites in listener "tcp": sealkeep offers the cipher suites that Go counts as secure
//	tls_key_exchange_preferences    in listener "tcp": Go chooses the key exchange
//	tls_max_version                 in listener "tcp": there is no upper bound to the TLS version
//	tls_auto_reload                 in listener "tcp": certificates are always read again when their files change, within 2 seconds
//	tls_auto_reload_interval        in listener "tcp": certificates are always read again when their files change, within 2 seconds
//	tls_acme_*                      in listener "tcp", refused: sealkeep fetches no certificates: remove it, and write tls_cert_file and tls_key_file
//	proxy_protocol_*                in listener "tcp", refused: sealkeep does not speak the PROXY protocol: remove it, and do not let the load balancer send it
//	x_forwarded_for_client_cert_*   in listener, refused: sealkeep takes client certificates from TLS connections only, never from a header: remove it, and let these clients connect without a proxy that ends TLS
//	chroot_namespace                in listener, refused: there are no namespaces: remove it
//	require_request_header          in listener, refused: sealkeep does not ask for the header X-Vault-Request: remove it
//	redact_*                        in listener: seal-status and health tell everyone what Vault's tell by default
//	custom_response_headers         in listener: answers have sealkeep's own headers only
//	cors_*                          in listener: no other web site may use the API
//	disable_unauthed_*              in listener: there are no such endpoints
//	disable_replication_status_endpoints in listener: there are no such endpoints
//	disable_request_limiter         in listener: sealkeep has its own limits
//	inflight_requests_logging       in listener: there are no such endpoints
//	purpose                         in listener: every listener serves the whole API
//	max_request_*                   in listener: sealkeep has its own limits
//	max_json_*                      in listener: sealkeep has its own limits
//	http_*                          in listener: sealkeep has its own limits
//	profiling                       in listener: there are no profiling endpoints
//	tls_disable                     in listener "unix": a unix socket is never encrypted
//	x_forwarded_for_*               in listener "unix": whoever connects to a socket has no address, X-Forwarded-For is not believed
//	disallow_metrics                in telemetry of a listener, refused: metrics cannot be left out of a listener: remove it; after unsealing they need a token unless unauthenticated_metrics_access is true
//	metrics_only                    in telemetry of a listener, refused: a listener serves the whole API or does not exist: remove the listener
//	local                           in audit: sealkeep is a single node
//	skip_test                       in audit: a device is tried when it is opened, and again until it works
//	prefix                          in audit, refused: lines of the audit log have no prefix: remove it
//	filter                          in audit, refused: every device gets every record: remove it
//	exclude                         in audit, refused: every device gets every record: remove it
//	fallback                        in audit, refused: every device gets every record: remove it
//	health_check_*                  in seal: sealkeep checks its seals on a plan of its own
//	disallow_env_vars               in seal "awskms", refused: sealkeep reads the variables itself, and by the table in its reference: unset the variable that must not count
//	key_not_required                in seal "awskms", refused: a seal without a key wraps nothing: remove it and write kms_key_id
package config
