output "kms_key_id" {
  description = "ID of the key"
  value       = aws_kms_key.this.key_id
}

output "kms_key_arn" {
  description = "ARN of the key"
  value       = aws_kms_key.this.arn
}

output "kms_key_alias_name" {
  description = "Name of the alias, with alias/"
  value       = aws_kms_alias.this.name
}

output "kms_key_alias_arn" {
  description = "ARN of the alias"
  value       = aws_kms_alias.this.arn
}

output "kms_key_rotation_enabled" {
  description = "Whether the key rotates"
  value       = aws_kms_key.this.enable_key_rotation
}

output "kms_key_deletion_window" {
  description = "Days between the order to delete the key and its end"
  value       = aws_kms_key.this.deletion_window_in_days
}

output "seal_block" {
  description = "The seal block for the keep's configuration: terraform output -raw seal_block"
  value       = <<-EOT
    seal "awskms" {
      kms_key_id = "${aws_kms_key.this.arn}"
      region     = "${split(":", aws_kms_key.this.arn)[3]}"
    }
  EOT
}

output "keep_policy" {
  description = "The least IAM policy for the keep. It takes effect when the root of the account is in admin_users; otherwise the key's policy alone counts"
  value = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["kms:DescribeKey", "kms:Encrypt", "kms:Decrypt"]
      Resource = aws_kms_key.this.arn
    }]
  })
}
