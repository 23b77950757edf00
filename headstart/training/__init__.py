"""Training: one loop for pretraining and fine-tuning, its plan, its batches and its progress."""
