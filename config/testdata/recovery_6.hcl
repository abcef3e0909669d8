# env STATE_DIRECTORY=/var/lib/sealkeep
# env TOKEN=HUSHtoken
recovery "age" {
  recipients = { a = "age1one" }
}
