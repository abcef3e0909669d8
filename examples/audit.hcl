# A keep that records who asked for what: in a file, and at a collector on another machine, which whoever breaks into this
# one cannot change. Each device gets every record; a request is refused when none of them takes it. The folder must be
# there: the unit's LogsDirectory=sealkeep makes it. logrotate(8) renames the file and then sends SIGHUP:
#
#   /var/log/sealkeep/audit.log {
#     daily
#     rotate 90
#     missingok
#     notifempty
#     compress
#     delaycompress
#     postrotate
#       systemctl reload sealkeep
#     endscript
#   }

storage "bbolt" {
  path = "/var/lib/sealkeep/sealkeep.db"
}

# Only this user and root can use the socket. Over it root may open a keep that was sealed with `sealkeep operator seal`
# without a restart; let no proxy use it.
listener "unix" {
  address  = "/run/sealkeep/api.sock"
  operator = true
}

seal "awskms" {
  kms_key_id = "alias/sealkeep"
  region     = "eu-central-1"
}

audit "file" {
  file_path = "/var/log/sealkeep/audit.log"
  mode      = "0640"
}

audit "socket" "collector" {
  address       = "collector.example.com:6514"
  write_timeout = "1s"
}
