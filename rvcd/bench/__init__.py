"""`rvcd bench`: measures this machine with these voices. The parent holds no torch; each measurement is a fresh child process."""
