"""What a checkpoint can do: closed-loop success, action error, answers, and a page of them."""
