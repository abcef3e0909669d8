# env STATE_DIRECTORY=/var/lib/sealkeep
seal "awskms" {
  name       = "a"
  kms_key_id = "arn:aws:kms:eu-central-1:111122223333:key/1234"
  region     = "us-east-1"
  endpoint   = "https://user:HUSH@kms.example.com"
}
seal "awskms" {
  name       = "b"
  kms_key_id = "arn:aws:iam::111122223333:role/x"
  region     = "Frankfurt"
  endpoint   = "kms.example.com"
}
seal "awskms" {
  name       = "c"
  kms_key_id = "arn:aws:kms:eu-central-1:111122223333:key/1234"
  region     = "us-east-1"
}
