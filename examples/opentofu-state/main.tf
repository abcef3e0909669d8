# A project whose state and plans OpenTofu encrypts with a KMS key, in a bucket that only a role may read. The credentials
# in the environment are those of a user that may do nothing but assume the two roles (roles/).

terraform {
  required_version = ">= 1.10"

  encryption {
    key_provider "aws_kms" "this" {
      kms_key_id = var.kms_key_arn
      region     = var.region
      key_spec   = "AES_256"
      assume_role = {
        role_arn = var.encryption_role_arn
      }
      # From OpenTofu 1.13 on. roles/ can then refuse every other context: its variable encryption_context.
      # encryption_context = { project = var.project }
    }
    method "aes_gcm" "this" {
      keys = key_provider.aws_kms.this
    }
    state {
      method   = method.aes_gcm.this
      enforced = true
    }
    plan {
      method   = method.aes_gcm.this
      enforced = true
    }
  }

  # Not encrypt = true: it would ask for S3's own key where the bucket has another as its default.
  backend "s3" {
    bucket         = var.bucket
    key            = "opentofu-states/${var.project}/terraform.tfstate"
    region         = var.region
    use_lockfile   = var.dynamodb_table == null
    dynamodb_table = var.dynamodb_table
    assume_role = {
      role_arn = var.backend_role_arn
    }
  }
}

# What the project makes; here a text, whose value nobody is to read in the bucket.
resource "terraform_data" "example" {
  input = var.secret
}
