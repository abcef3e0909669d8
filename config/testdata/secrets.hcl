# env STATE_DIRECTORY=/var/lib/sealkeep
# env HUSHED=HUSHvalue
seal "transit" {
  name    = "a"
  address = "https://vault"
  token   = "env://UNSET"
  mount_path = "transit"
  key_name   = "k"
}
seal "transit" {
  name    = "b"
  address = "https://vault"
  token   = "file:///does/not/exist"
  mount_path = "transit"
  key_name   = "k"
}
seal "transit" {
  name    = "c"
  address = "https://vault"
  token   = "file://relative"
  mount_path = "transit"
  key_name   = "k"
}
seal "transit" {
  name    = "d"
  address = "https://vault"
  token   = "file://${env("TESTDATA")}/twolines.txt"
  mount_path = "transit"
  key_name   = "k"
}
seal "transit" {
  name    = "e"
  address = "https://vault"
  token   = "file://${env("TESTDATA")}/empty.txt"
  mount_path = "transit"
  key_name   = "k"
}
seal "transit" {
  name    = "f"
  address = "https://vault"
  token   = file("/dev/null")
  mount_path = credential("x")
  key_name   = env("UNSET")
}
seal "awskms" {
  name       = "g"
  region     = env("HUSHED")
  kms_key_id = "alias/x"
  disabled   = env("HUSHED")
}
