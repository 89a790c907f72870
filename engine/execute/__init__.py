"""What happens: a plan is carried out, in this process or on Ray, with the same meaning."""
