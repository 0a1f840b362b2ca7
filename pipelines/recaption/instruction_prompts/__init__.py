"""The instruction-writing prompts that come with editmill, one versioned file each: NAME.vVERSION.yaml."""
