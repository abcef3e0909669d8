output "kms_key_id" {
  description = "ID of the replica, which is the primary key's"
  value       = aws_kms_replica_key.this.key_id
}

output "kms_key_arn" {
  description = "ARN of the replica"
  value       = aws_kms_replica_key.this.arn
}

output "kms_key_alias_arn" {
  description = "ARN of the replica's alias"
  value       = aws_kms_alias.this.arn
}

output "seal_block" {
  description = "The second seal block for the keep's configuration: terraform output -raw seal_block"
  value       = <<-EOT
    seal "awskms" {
      name       = "replica"
      kms_key_id = "${aws_kms_replica_key.this.arn}"
      region     = "${split(":", aws_kms_replica_key.this.arn)[3]}"
    }
  EOT
}

output "keep_policy" {
  description = "The least IAM policy for the keep on the replica; see 01_kms"
  value = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["kms:DescribeKey", "kms:Encrypt", "kms:Decrypt"]
      Resource = aws_kms_replica_key.this.arn
    }]
  })
}
