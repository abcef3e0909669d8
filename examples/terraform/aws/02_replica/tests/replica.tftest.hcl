mock_provider "aws" {
  mock_resource "aws_kms_replica_key" {
    defaults = {
      arn = "arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
    }
  }
  mock_data "aws_caller_identity" {
    defaults = {
      arn = "arn:aws:sts::111122223333:assumed-role/caller/session"
    }
  }
  mock_data "aws_iam_session_context" {
    defaults = {
      issuer_arn = "arn:aws:iam::111122223333:role/people/caller"
    }
  }
}

variables {
  primary_key_arn = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
  replica_region  = "eu-west-1"
  admin_users     = ["arn:aws:iam::111122223333:user/admin"]
  standard_users  = ["arn:aws:iam::111122223333:role/sealkeep"]
}

run "replica" {
  assert {
    condition = jsonencode(jsondecode(aws_kms_replica_key.this.policy).Statement) == jsonencode([
      { Sid = "Administer", Effect = "Allow", Principal = { AWS = ["arn:aws:iam::111122223333:user/admin", "arn:aws:iam::111122223333:role/people/caller"] }, Action = "kms:*", Resource = "*" },
      { Sid = "Use", Effect = "Allow", Principal = { AWS = var.standard_users }, Action = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:DescribeKey"], Resource = "*" },
    ])
    error_message = "the key's policy allows something else"
  }
  assert {
    condition     = output.seal_block == <<-EOT
      seal "awskms" {
        name       = "replica"
        kms_key_id = "arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
        region     = "eu-west-1"
      }
    EOT
    error_message = "the seal block names another key"
  }
  assert {
    condition     = jsondecode(output.keep_policy).Statement == [{ Effect = "Allow", Action = ["kms:DescribeKey", "kms:Encrypt", "kms:Decrypt"], Resource = output.kms_key_arn }]
    error_message = "the keep may do something else"
  }
}

run "govcloud" {
  variables {
    admin_users    = ["arn:aws-us-gov:iam::111122223333:root"]
    standard_users = ["arn:aws-us-gov:iam::111122223333:role/service/sealkeep"]
  }
}

run "china" {
  variables {
    admin_users    = ["arn:aws-cn:iam::111122223333:root"]
    standard_users = ["arn:aws-cn:iam::111122223333:user/sealkeep"]
  }
}

run "the_caller_is_named_once" {
  variables {
    admin_users = ["arn:aws:iam::111122223333:role/people/caller"]
  }
  assert {
    condition     = jsondecode(aws_kms_replica_key.this.policy).Statement[0].Principal.AWS == ["arn:aws:iam::111122223333:role/people/caller"]
    error_message = "the admins are others"
  }
}

run "same_region" {
  command = plan
  variables {
    replica_region = "eu-central-1"
  }
  expect_failures = [aws_kms_replica_key.this]
}

run "window_6" {
  command = plan
  variables {
    kms_key_deletion_window = 6
  }
  expect_failures = [var.kms_key_deletion_window]
}

run "window_31" {
  command = plan
  variables {
    kms_key_deletion_window = 31
  }
  expect_failures = [var.kms_key_deletion_window]
}

run "window_of_a_half" {
  command = plan
  variables {
    kms_key_deletion_window = 7.5
  }
  expect_failures = [var.kms_key_deletion_window]
}

run "no_admin" {
  command = plan
  variables {
    admin_users = []
  }
  expect_failures = [var.admin_users]
}

run "no_user" {
  command = plan
  variables {
    standard_users = []
  }
  expect_failures = [var.standard_users]
}

run "admin_without_arn" {
  command = plan
  variables {
    admin_users = ["admin"]
  }
  expect_failures = [var.admin_users]
}

run "user_without_arn" {
  command = plan
  variables {
    standard_users = ["arn:aws:iam::111122223333:role/sealkeep", "sealkeep"]
  }
  expect_failures = [var.standard_users]
}

run "everybody_as_user" {
  command = plan
  variables {
    standard_users = ["*"]
  }
  expect_failures = [var.standard_users]
}

run "group_as_user" {
  command = plan
  variables {
    standard_users = ["arn:aws:iam::111122223333:group/keeps"]
  }
  expect_failures = [var.standard_users]
}

run "alias_with_prefix" {
  command = plan
  variables {
    kms_alias_name = "alias/sealkeep"
  }
  expect_failures = [var.kms_alias_name]
}

run "alias_of_aws" {
  command = plan
  variables {
    kms_alias_name = "aws/sealkeep"
  }
  expect_failures = [var.kms_alias_name]
}

run "alias_with_a_space" {
  command = plan
  variables {
    kms_alias_name = "seal keep"
  }
  expect_failures = [var.kms_alias_name]
}

run "primary_of_one_region" {
  command = plan
  variables {
    primary_key_arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  }
  expect_failures = [var.primary_key_arn]
}
