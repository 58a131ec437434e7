"""The loop: from specs to desired objects, from differences to operations, from events to repairs."""
