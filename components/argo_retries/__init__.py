"""Set the retry policy of Argo's controller: lost pods are retried, errors of the user are not."""
