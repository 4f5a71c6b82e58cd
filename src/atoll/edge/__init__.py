"""Transport agents of the perimeter: is a message from whom it says, and why should others believe ours?"""
