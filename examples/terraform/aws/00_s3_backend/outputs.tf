output "bucket_name" {
  description = "Name of the bucket, for backend.config"
  value       = aws_s3_bucket.state.id
}

output "bucket_arn" {
  description = "ARN of the bucket"
  value       = aws_s3_bucket.state.arn
}
