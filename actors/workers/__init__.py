"""Worker processes: started, fed with attempts, watched and cleaned up after."""
