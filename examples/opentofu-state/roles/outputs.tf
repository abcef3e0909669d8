output "encryption_role_arn" {
  description = "Role that uses the key: for standard_users of 01_kms"
  value       = aws_iam_role.encryption.arn
}

output "backend_role_arn" {
  description = "Role that reads and writes the state: for standard_users of 01_kms, too, where that key encrypts the bucket"
  value       = aws_iam_role.backend.arn
}

output "user_name" {
  description = "User that may only assume the two roles: aws iam create-access-key --user-name NAME"
  value       = aws_iam_user.this.name
}
