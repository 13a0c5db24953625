"""The retry policy of Argo's controller: pods that were lost are tried again, errors of the user are not."""
