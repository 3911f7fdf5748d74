"""The fault suite: a seeded schedule of faults against real processes while clients chat, and the proof afterwards.

`python -m chatplatform.testing.faults --seed 123`; docs/testing.md says how to read a failure.
"""
