#!/usr/bin/perl
# sendmail.pl PORT < message: hands a message to the SMTP server on that loopback port, to the addresses in
# To, Cc and Bcc. Exits with 75 (try later) when the server is not there or says 4xx, 69 when it refuses
# for good: what a program that pipes into sendmail expects.
use strict;
use warnings;
use Net::SMTP;

my $port = shift or die "usage: sendmail.pl PORT\n";
local $/;
my ($head, $body) = split /\r?\n\r?\n/, <STDIN>, 2;
$head =~ s/\r?\n[ \t]+/ /g;
my (@to, @kept, $from);
for my $line (split /\r?\n/, $head) {
    my ($name, $value) = $line =~ /^([^:\s]+):\s*(.*)/ or next;
    my @addresses = $value =~ /([^\s<>,;:"()]+@[^\s<>,;:"()]+)/g;
    push @to, @addresses if $name =~ /^(To|Cc|Bcc)$/i;
    $from //= $addresses[0] if $name =~ /^From$/i;
    push @kept, $line unless $name =~ /^Bcc$/i;
}
exit 0 unless @to;
my $smtp = Net::SMTP->new('127.0.0.1', Port => $port, Timeout => 30) or exit 75;
my $ok = $smtp->mail($from // 'rt@example.test') && $smtp->to(@to)
    && $smtp->data(join("\r\n", @kept) . "\r\n\r\n" . ($body // ''));
my $code = $smtp->code;
$smtp->quit;
exit($ok ? 0 : $code >= 500 ? 69 : 75);
