"""The EC2 API: servers, images, key pairs, security groups and addresses as Amazon's tools ask for them."""
