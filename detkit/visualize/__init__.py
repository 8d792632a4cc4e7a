"""Pictures and pages a person looks at."""
