"""A registered model as it is watched: what its run left behind, beside what was logged and what turned out true."""
