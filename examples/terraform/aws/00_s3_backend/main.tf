# The bucket that holds the Terraform state of the modules beside this one. Its own state stays in this folder: it
# describes the bucket and has no secret in it.

terraform {
  required_version = ">= 1.10"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
}

data "aws_partition" "current" {}

# terraform destroy would fail at a bucket with states in it, but only after it had taken policy and versioning away.
resource "aws_s3_bucket" "state" {
  bucket = var.bucket_name
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "state" {
  bucket = aws_s3_bucket.state.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "state" {
  bucket = aws_s3_bucket.state.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
    bucket_key_enabled = var.kms_key_arn != null
  }
}

resource "aws_s3_bucket_public_access_block" "state" {
  bucket                  = aws_s3_bucket.state.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# Nobody deletes a state, nor an old version of one. Lock files are the exception: Terraform and OpenTofu end a lock by
# deleting its file, and with use_lockfile every apply would fail otherwise.
resource "aws_s3_bucket_policy" "state" {
  bucket = aws_s3_bucket.state.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid         = "KeepStates"
      Effect      = "Deny"
      Principal   = "*"
      Action      = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
      NotResource = "arn:${data.aws_partition.current.partition}:s3:::${var.bucket_name}/*.tflock"
    }]
  })
  depends_on = [aws_s3_bucket_public_access_block.state]
}
