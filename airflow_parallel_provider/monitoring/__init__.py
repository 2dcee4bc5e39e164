"""What a running pipeline shows: snapshots, history, forecast and summary as plain JSON."""
