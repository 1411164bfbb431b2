"""The robot's side: what stands between a reply of a policy and an arm. Needs numpy alone."""
