"""What rows are before a database sees them: blocks, Arrow tables, data frames, type inference, fitting, rejects."""
