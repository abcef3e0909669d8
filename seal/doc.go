// Package seal lets a key service (AWS KMS, a Transit engine, a key in a Vault KV secret, a static key) protect a secret,
// such as the root key of a store: Wrap returns a blob that only the key service can open again, and Unwrap opens it.
//
// The key service never sees the secret. It only sees a data key, made fresh for each blob:
//
//	key service --wraps--> data key --AES-256-GCM, with associated data--> secret
//
// A [Seal] is one key service as one seal block configures it. Making it costs nothing and makes no request. Each Wrap
// and Unwrap makes a client of its own, so that nothing of a failed attempt remains, and returns within its context,
// whatever the client does. Errors are of type [*Error] and have a class that says what went wrong. [Seal.Diagnose]
// looks for the reason, step by step. The requests are:
//
//	         Wrap                              Unwrap                     KeyID
//	awskms   DescribeKey, Encrypt, Decrypt     DescribeKey, Decrypt       DescribeKey
//	transit  renewal, 2 Encrypt, Decrypt       renewal, Encrypt, Decrypt  renewal, Encrypt, look-up of the token
//	vaultkv  renewal, reading the key          as Wrap                    as Wrap, and look-up of the token
//	static   none                              none                       none
//
// The renewal is the token's. An Unwrap by vaultkv reads up to ten older versions if the key was replaced since.
//
// # AWS credentials
//
// The first source that exists is used, and the others are ignored.
//
//	   source                     what selects it                                renewed
//	1  keys of the block          access_key, secret_key, session_token          by a new Seal, as a reload makes
//	2  web identity, block        web_identity_token_file with role_arn (else    by STS; the token's file is read again
//	                              AWS_ROLE_ARN); or role_arn, no profile in the
//	                              block, and AWS_WEB_IDENTITY_TOKEN_FILE
//	3  profile of the block       shared_creds_filename, shared_creds_profile    as 6
//	4  keys of the environment    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,      by a restart
//	                              AWS_SESSION_TOKEN
//	5  web identity, environment  AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN      as 2
//	6  profile                    AWS_PROFILE, else default, of                  by what it says:
//	                              AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE
//	     role_arn with source_profile, or with credential_source                 by STS
//	     (EcsContainer, Ec2InstanceMetadata)
//	     keys                                                                    read again when AWS refuses them
//	     web_identity_token_file                                                 as 2
//	     sso_session; sso_start_url of old                                       while aws sso login lasts, which the
//	                                                                             refresh token of a session makes longer
//	     credential_process                                                      run again
//	7  container: ECS,            AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, else   asked again; the token's file is read
//	   EKS Pod Identity           ..._FULL_URI (http only to loopback and AWS's     again
//	                              own addresses); with
//	                              AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, else
//	                              AWS_CONTAINER_AUTHORIZATION_TOKEN
//	8  instance role              IMDSv2 answers (IMDSv1 is never asked) and     asked again
//	                              AWS_EC2_METADATA_DISABLED is not true
//
// A role_arn of the block, except in 2, is assumed with the credentials of the other sources. In 2 to 8 temporary
// credentials are kept until a minute before their end, then renewed (those of an instance are kept longer, while it has
// no newer ones or does not answer). After AWS refuses credentials, the next attempt looks for new ones. Credentials that
// expire without being renewed give errors of class [CredentialsExpired]. Requests for credentials are repeated once, and
// time out after ten seconds.
//
// The files of aws sso login in ~/.aws/sso/cache are read for each renewal, and written when a refresh token was used:
// log in as the keep's user, with its HOME.
//
// The region is the block's, the key ARN's, AWS_REGION, AWS_DEFAULT_REGION, the profile's or the instance's, in this
// order. It determines the hosts, and with them the partition: kms.eu-central-1.amazonaws.com,
// kms.us-gov-west-1.amazonaws.com (GovCloud), kms.cn-north-1.amazonaws.com.cn (China), and sts in place of kms for roles.
//
//	AWS_CA_BUNDLE               authorities for KMS, STS and SSO, instead of the system's; read again for each attempt of KMS
//	HTTPS_PROXY, NO_PROXY       for KMS, STS and SSO; never for loopback
//	HTTP_PROXY, NO_PROXY        for container and instance too: NO_PROXY needs 169.254.169.254, 169.254.170.2,
//	                            169.254.170.23, fd00:ec2::23
//	endpoint, AWS_KMS_ENDPOINT  URL for KMS alone: a VPC endpoint, also an IPv6 address in brackets
//	AWS_ENDPOINT_URL_KMS        likewise, if neither of these is set; then AWS_ENDPOINT_URL, then the profile's services
//	                            section, then its endpoint_url (a block with keys and a region needs no profile)
//	AWS_ENDPOINT_URL_STS        URL for STS alone; then the same three. Likewise _SSO, the portal, and _SSO_OIDC
//	AWS_IGNORE_CONFIGURED_ENDPOINT_URLS
//	                            true: only endpoint and AWS_KMS_ENDPOINT count
//	AWS_USE_FIPS_ENDPOINT       true: kms-fips, sts-fips (in GovCloud sts)
//	AWS_USE_DUALSTACK_ENDPOINT  true: kms.REGION.api.aws, sts.REGION.api.aws
//	ignored                     AWS_STS_REGIONAL_ENDPOINTS: STS is always the region's
//
// # A key in a KV secret
//
// vaultkv reads the key for each attempt, at key_path (MOUNT/data/NAME) of a KV version 2 engine of Vault or OpenBao: the
// field "key", base64 of 32 bytes, as sealkeep keygen makes it and as terraform-backend has it. During an attempt the key
// is on this machine, like a static key; with transit it would never leave the server. Its ID is derived from it. A new
// version of the secret is a new key; blobs wrapped by one of the ten versions before still open, until that version is
// deleted or destroyed. Vault's own client is not used, and Vault's variables count only by the rules of config;
// HTTPS_PROXY and NO_PROXY count as well.
//
// # Logins
//
// Without a token, transit and vaultkv log in with a Kubernetes service account, at auth/kubernetes/login or the mount of
// kube_auth_name, to the role of kube_auth_role. A login's token is used until a minute before its end, or until it is
// denied something; then the seal logs in again, but at most once a minute after a denial.
//
// # Tokens
//
// A token of transit and vaultkv should be orphan, periodic, without a maximum TTL and allowed to renew itself (in Vault's
// and OpenBao's default policy). With transit, the client of the last successful attempt keeps renewing it until Close;
// before the first attempt it is not renewed. With vaultkv, only the attempts renew it, so its period must be longer than
// the time between them. With a token that is expired, revoked or at its maximum TTL the next attempt fails with class
// [AuthDenied]; whoever already has the secret is not affected. [Seal.Warning] reports a renewal that has stopped while
// the token may still work, and the token's end; [Seal.TokenTTL] reports the remaining time. A token in a file is read by
// config, so a new one needs a new Seal, as a reload makes. Certificates and keys for TLS are read for each attempt.
//
// A transit attempt that hangs keeps others of its Seal from starting until Vault's client gives up: after
// VAULT_CLIENT_TIMEOUT (60 seconds if unset) for the first try and for each of VAULT_MAX_RETRIES (2 if unset) more.
//
// # Format
//
// A blob, at most 64 KiB long:
//
//	version(1) = 1 | wrapping.BlobInfo as protobuf:
//	    ciphertext  the secret, encrypted with the data key, and the tag(16)
//	    iv          nonce(12)
//	    key_info    mechanism = 1 (envelope)
//	                key_id: the ARN of the KMS key; prefix and version of the transit key; the ID of the key of static
//	                or vaultkv
//	                wrapped_key: the data key, wrapped by the key service
//
// The message is the one that go-kms-wrapping's awskms writes. Its mechanism 0 has no associated data and is refused,
// as is every other. What the blob says about its key is only a hint: only a key that the configuration names may open
// it.
package seal
